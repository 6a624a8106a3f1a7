"""A published directory is whole, whatever happens to who builds it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from embed.publish import publish, publishing_lock


def test_a_directory_appears_with_its_content_and_nothing_beside_it(tmp_path: Path) -> None:
    publish(tmp_path / "it", lambda fresh: _write(fresh, "one"))
    assert (tmp_path / "it" / "word").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_it_replaces_what_was_there_leaving_no_old_file(tmp_path: Path) -> None:
    publish(tmp_path / "it", lambda fresh: (fresh / "old").touch())
    publish(tmp_path / "it", lambda fresh: _write(fresh, "two"))
    assert [path.name for path in (tmp_path / "it").iterdir()] == ["word"]
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_nothing_shows_before_the_build_is_done(tmp_path: Path) -> None:
    def build(fresh: Path) -> None:
        _write(fresh, "half")
        assert not (tmp_path / "it").exists()

    publish(tmp_path / "it", build)
    assert (tmp_path / "it").exists()


def test_a_failed_build_leaves_the_old_directory_and_no_rubbish(tmp_path: Path) -> None:
    publish(tmp_path / "it", lambda fresh: _write(fresh, "one"))

    def fail(fresh: Path) -> None:
        _write(fresh, "half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish(tmp_path / "it", fail)
    assert (tmp_path / "it" / "word").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_what_a_killed_build_left_behind_is_swept(tmp_path: Path) -> None:
    _write(tmp_path / ".it.building-abc" / "fresh", "half")
    publish(tmp_path / "it", lambda fresh: _write(fresh, "one"))
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_other_users_may_read_what_is_published(tmp_path: Path) -> None:
    publish(tmp_path / "it", lambda fresh: _write(fresh, "one"))
    assert (tmp_path / "it").stat().st_mode & 0o055 == 0o055


def test_one_builds_while_the_other_waits_and_is_told(tmp_path: Path) -> None:
    told, order = threading.Event(), []

    def second() -> None:
        with publishing_lock(tmp_path / "it", told.set):
            order.append("second")

    with publishing_lock(tmp_path / "it", pytest.fail):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(10)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_makes_the_folders_on_the_way(tmp_path: Path) -> None:
    with publishing_lock(tmp_path / "a" / "b" / "it", pytest.fail):
        assert (tmp_path / "a" / "b").is_dir()


def _write(directory: Path, word: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "word").write_text(word)
