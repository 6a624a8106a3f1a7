"""What is remembered comes back as it was, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy import example_memo
from proxy.example_memo import load_memo, save_memo, text_digest


def some(count: int) -> dict[bytes, npt.NDArray[np.float32]]:
    rows = np.random.default_rng(count).normal(size=(count, 6)).astype("f4")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {text_digest(f"text {n}"): row for n, row in enumerate(rows)}


def same(a: dict[bytes, npt.NDArray[np.float32]], b: dict[bytes, npt.NDArray[np.float32]]) -> bool:
    return a.keys() == b.keys() and all((a[key] == b[key]).all() for key in a)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_memo(tmp_path / "new" / "memo.npz", "m", some(5))
    assert same(load_memo(tmp_path / "new" / "memo.npz", "m"), some(5))
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["memo.npz"]


def test_another_checkpoint_s_vectors_are_not_loaded(tmp_path: Path) -> None:
    save_memo(tmp_path / "memo.npz", "m", some(5))
    assert load_memo(tmp_path / "memo.npz", "m2") == {}


def test_no_file_is_no_vectors_and_no_complaint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_memo(tmp_path / "memo.npz", "m") == {}
    assert caplog.text == ""


def test_nothing_to_remember_leaves_the_file_alone(tmp_path: Path) -> None:
    save_memo(tmp_path / "memo.npz", "m", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip", b"\x93NUMPY\x01\x00"])
def test_another_file_counts_as_empty(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "memo.npz"
    file.write_bytes(content)
    assert load_memo(file, "m") == {}
    assert "is not used" in caplog.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_gives_what_was_saved_or_nothing(
    tmp_path: Path, data: st.DataObject
) -> None:
    file = tmp_path / "memo.npz"
    save_memo(file, "m", some(3))
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    found = load_memo(file, "m")
    assert found == {} or same(found, some(3))


def test_vectors_that_are_not_unit_vectors_are_not_loaded(tmp_path: Path) -> None:
    save_memo(tmp_path / "memo.npz", "m", {text_digest("a"): np.array([3, 4], np.float32)})
    assert load_memo(tmp_path / "memo.npz", "m") == {}


def test_pickles_are_never_read(tmp_path: Path) -> None:
    file = tmp_path / "memo.npz"
    np.savez(
        file,
        checkpoint=np.array("m"),
        digests=np.zeros((1, 32), np.uint8),
        vectors=np.array([{"a": 1}], dtype=object),
        allow_pickle=True,
    )
    assert load_memo(file, "m") == {}


def test_a_file_larger_than_any_of_ours_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_memo(tmp_path / "memo.npz", "m", some(5))
    monkeypatch.setattr(example_memo, "MAX_FILE_BYTES", 100)
    assert load_memo(tmp_path / "memo.npz", "m") == {}


def test_only_so_many_are_remembered_the_first_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example_memo, "MAX_REMEMBERED", 3)
    save_memo(tmp_path / "memo.npz", "m", some(5))
    assert list(load_memo(tmp_path / "memo.npz", "m")) == list(some(5))[:3]


def test_a_place_that_cannot_be_written_is_logged_and_left_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "memo.npz").mkdir()
    save_memo(tmp_path / "memo.npz", "m", some(5))
    assert "cannot be written" in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == ["memo.npz"]


def test_texts_are_told_apart_and_even_a_lone_surrogate_has_a_digest() -> None:
    digests = {text_digest(text) for text in ("a", "A", "a ", "", "\ud800")}
    assert len(digests) == 5
