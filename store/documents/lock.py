"""A data directory belongs to one writing process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from store.errors import DirectoryInUse, StoreUnavailable


class DirectoryLock:
    """Holds `nearhit.lock` in a directory; the kernel lets go of it when the process ends."""

    def __init__(self, directory: Path) -> None:
        """Take the lock; raise DirectoryInUse when another process has it."""
        path = directory / "nearhit.lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"data_dir {directory} cannot be used: {error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 20, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise DirectoryInUse(
                f"data_dir {directory} is in use by process {holder or 'unknown'};"
                " stop that one, or give this one a data_dir of its own"
            ) from error
        with contextlib.suppress(OSError):  # a full disk: it is locked all the same
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let another process have the directory."""
        os.close(self._file)


def take_directory(directory: Path) -> DirectoryLock:
    """Create the directory if need be and lock it; raise StoreUnavailable."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"data_dir {directory} cannot be used: {error}") from error
    return DirectoryLock(directory)
