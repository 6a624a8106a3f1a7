"""Starts the servers of a benchmark as processes of their own, and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

READY_POLL = 0.01  # seconds between two looks
STOP_GRACE = 15.0  # seconds between SIGTERM and SIGKILL
PR_SET_PDEATHSIG = 1

Command = Callable[[int], Sequence[str]]  # the command line for a port


class ServerFailed(Exception):
    """A server of the benchmark died or never became ready."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready."""

    origin: str  # as http://127.0.0.1:9000
    pid: int
    ready_seconds: float  # from exec to ready


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def python_server(module: str, *arguments: str) -> Command:
    """Return the command of a module that takes --port."""
    return lambda port: (sys.executable, "-m", module, *arguments, "--port", str(port))


def nearhit_server(config: Path) -> Command:
    """Return the command of this environment's `nearhit serve`."""
    program = Path(sys.executable).with_name("nearhit")
    where = ("--host", "127.0.0.1", "--port")
    return lambda port: (str(program), "serve", "--config", str(config), *where, str(port))


@asynccontextmanager
async def running(
    name: str,
    command: Command,
    ready_path: str | None = None,
    ready_seconds: float = 60.0,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Server]:
    """Run a server while entered; ready: it accepts, or `ready_path` answers 200.

    Raises ServerFailed with the last lines it printed when it does not get there.
    """
    port = free_port()
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command(port),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            preexec_fn=_die_with_parent,
        )
        try:
            origin = f"http://127.0.0.1:{port}"
            try:
                async with asyncio.timeout(ready_seconds):
                    await _until_ready(process, origin, port, ready_path)
            except TimeoutError:
                raise ServerFailed(f"{name}: not ready after {ready_seconds:g} s") from None
            yield Server(origin, process.pid, time.perf_counter() - started)
        except ServerFailed as failed:
            raise ServerFailed(f"{failed}\n{_tail(log.fileno())}") from None
        finally:
            await _stop(process)


async def _until_ready(
    process: asyncio.subprocess.Process, origin: str, port: int, ready_path: str | None
) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            if process.returncode is not None:
                raise ServerFailed(f"{origin}: ended with status {process.returncode}")
            with contextlib.suppress(OSError, aiohttp.ClientError):
                if ready_path is None:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                async with session.get(origin + ready_path) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(READY_POLL)


async def _stop(process: asyncio.subprocess.Process) -> None:
    for send in (process.terminate, process.kill):
        with contextlib.suppress(ProcessLookupError):
            send()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE):
                await process.wait()
            return


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _tail(log: int) -> str:
    with open(f"/proc/self/fd/{log}", "rb") as text:
        lines = text.read().decode(errors="replace").strip().splitlines()
    return "\n".join(f"    {line}" for line in lines[-12:])
