"""Put a directory in place whole or not at all, also when two processes try at once."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def publishing_lock(directory: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the right to publish `directory`; `on_wait` is called if somebody else holds it.

    The kernel frees the lock when its holder dies, so a crashed build never blocks the next.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f".{directory.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def publish(directory: Path, build: Callable[[Path], None]) -> None:
    """Let `build` fill an empty directory, then rename it to `directory`, replacing what was there.

    Call it under publishing_lock. What readers see is the old directory, then nothing for an
    instant, then the new one; after a power cut, one of these.
    """
    prefix = f".{directory.name}.building-"
    for leftover in directory.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
    try:
        fresh = work / "fresh"
        fresh.mkdir()  # mkdtemp is closed to other users, a checkpoint is for all
        build(fresh)
        for path in (*fresh.iterdir(), fresh):
            _fsync(path)
        if directory.exists():
            directory.rename(work / "replaced")
        fresh.rename(directory)
        _fsync(directory.parent)
    finally:
        shutil.rmtree(work)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
