from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
from pathlib import Path

import pytest

from store.documents.lock import DirectoryLock
from store.forked import Child, ChildFailed


async def test_the_work_sees_memory_as_it_was_and_changes_nothing_here(tmp_path: Path) -> None:
    values = ["before"]

    def work() -> None:
        os.write(os.open(tmp_path / "seen", os.O_WRONLY | os.O_CREAT), values[0].encode())
        values[0] = "changed"

    child = Child(work)
    values[0] = "after"
    await child.ended(30)
    assert (tmp_path / "seen").read_text() == "before"
    assert values == ["after"]


async def test_a_failure_is_told_with_its_reason() -> None:
    def work() -> None:
        raise ValueError("no such ferry")

    with pytest.raises(ChildFailed, match="ValueError: no such ferry"):
        await Child(work).ended(30)


async def test_a_child_that_is_killed_is_a_failure() -> None:
    with pytest.raises(ChildFailed, match="ended by signal 9"):
        await Child(lambda: os.kill(os.getpid(), signal.SIGKILL)).ended(30)


async def test_a_child_runs_nothing_of_its_parents_at_its_end(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        os.write(1, b"a line that nobody sees")
        raise SystemExit(3)

    with pytest.raises(ChildFailed, match="SystemExit: 3"):
        await Child(work).ended(30)
    assert capfd.readouterr().out == ""


async def test_a_child_inherits_neither_the_lock_nor_a_socket(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    ready, told = os.pipe()

    def work() -> None:
        held = sorted(map(int, os.listdir("/dev/fd")))
        (tmp_path / "held").write_text(" ".join(map(str, held)))
        signal.pause()

    child = Child(work)
    os.close(told)  # the child has closed its own by the time that it works
    assert await asyncio.wait_for(asyncio.to_thread(os.read, ready, 1), 10) == b""
    os.close(ready)
    lock.release()
    again = os.open(tmp_path / "nearhit.lock", os.O_RDWR)
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(again)
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
    with pytest.raises(ChildFailed, match="not done after"):
        await child.ended(0.3)
    assert (tmp_path / "held").read_text() == "0 1 2 3 4"  # standard, report, the listing itself


async def test_a_child_ends_with_whoever_waits_for_it() -> None:
    child = Child(signal.pause)
    waiting = asyncio.create_task(child.ended(60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(child._process, 0)
