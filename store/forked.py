"""Work on a frozen copy of memory: in a forked child, while this process goes on.

The child shares memory pages until either side writes to them. It has one thread, so whatever lock
another thread held at that moment is held for ever there: its work may use files, numpy and
hnswlib, but no logging, no event loop, and nothing of OpenSSL that takes a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import warnings
from collections.abc import Callable
from typing import NoReturn

REPORT = 3  # the child's only descriptor besides the standard ones
LONGEST_REPORT = 4096  # bytes


class ChildFailed(Exception):
    """The work failed, or its process was ended; says why."""


class Child:
    """A child at work, to be awaited with `ended`."""

    def __init__(self, work: Callable[[], None]) -> None:
        """Copy memory as it is now and start the work. Raises OSError."""
        self._process, self._reader = fork(work)

    async def ended(self, patience: float) -> None:
        """Return when the work is done; to be called once.

        Raises ChildFailed, also after `patience` seconds; the child is ended then, and when this
        is cancelled.
        """
        try:
            async with asyncio.timeout(patience):
                said = await read_all(self._reader)
        except TimeoutError:
            os.kill(self._process, signal.SIGKILL)
            said = f"not done after {patience:.0f} s".encode()
        except BaseException:
            os.kill(self._process, signal.SIGKILL)
            raise
        finally:
            os.close(self._reader)
            _, status = await asyncio.to_thread(os.waitpid, self._process, 0)
        if code := os.waitstatus_to_exitcode(status):
            raise ChildFailed(said.decode(errors="replace") or f"ended by signal {-code}")


def fork(work: Callable[[], None]) -> tuple[int, int]:
    """Start the child; return its process id and what its report is read from until its end."""
    reader, writer = os.pipe()
    try:
        with warnings.catch_warnings():
            # Python 3.12 and later warn of threads that hold locks: see the top of this file.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            live_as_child(work, writer)
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    os.set_blocking(reader, False)
    return child, reader


def live_as_child(work: Callable[[], None], report: int) -> NoReturn:
    """Do the work and end, whatever happens, without running anything of the parent's."""
    status = 1
    try:
        if (
            report != REPORT
        ):  # first: a failure is written there, and it may be a file of the parent's
            os.dup2(report, REPORT)
        gc.disable()  # it would touch, and thereby copy, every page
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        close_from(REPORT + 1)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nowhere, standard)
        os.close(nowhere)
        work()
        status = 0
    except BaseException as error:  # nobody above is to see it
        os.write(REPORT, f"{type(error).__name__}: {error}".encode()[:LONGEST_REPORT])
    finally:
        os._exit(status)


def close_from(lowest: int) -> None:
    """Close every descriptor from this one on: locks and sockets must not live on in a child."""
    try:
        held = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        held = [os.sysconf("SC_OPEN_MAX") - 1]
    os.closerange(lowest, max(held) + 1)


async def read_all(reader: int) -> bytes:
    """Return what is written into a pipe until its last writer closes it."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    said = bytearray()

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            while part := os.read(reader, LONGEST_REPORT):
                said.extend(part)
            loop.remove_reader(reader)
            if not ended.done():
                ended.set_result(None)

    loop.add_reader(reader, read)
    try:
        await ended
    finally:
        loop.remove_reader(reader)
    return bytes(said)
