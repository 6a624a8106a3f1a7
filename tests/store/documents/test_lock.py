from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from store.documents.lock import DirectoryLock
from store.errors import StoreUnavailable


def test_a_second_holder_is_told_who_is_first(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with pytest.raises(StoreUnavailable, match=f"in use by process {os.getpid()}; stop that one"):
        DirectoryLock(tmp_path)
    lock.release()


def test_a_released_directory_can_be_taken_again(tmp_path: Path) -> None:
    DirectoryLock(tmp_path).release()
    DirectoryLock(tmp_path).release()


def test_what_a_dead_process_left_behind_does_not_lock(tmp_path: Path) -> None:
    (tmp_path / "nearhit.lock").write_text("4194304000")
    DirectoryLock(tmp_path).release()
    assert (tmp_path / "nearhit.lock").read_text() == str(os.getpid())


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        DirectoryLock(tmp_path / "missing")


def test_a_full_disk_does_not_keep_a_directory_from_being_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    lock = DirectoryLock(tmp_path)
    with pytest.raises(StoreUnavailable, match="in use by process unknown"):
        DirectoryLock(tmp_path)
    lock.release()
