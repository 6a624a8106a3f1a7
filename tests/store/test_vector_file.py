"""The file of vectors: what is in it comes back, and nothing that was damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import vector_file
from store.vector_file import VectorFile, delete_others, file_name
from tests.entries import DIMENSION, axis, directions

VECTORS = directions(60)
TEXTS = [f"question {number}" for number in range(60)]
CHECKPOINT = "mini-1"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[VectorFile]:
    opened = VectorFile.open(tmp_path, CHECKPOINT, DIMENSION)
    yield opened
    opened.close()


def reopened(directory: Path) -> VectorFile:
    return VectorFile.open(directory, CHECKPOINT, DIMENSION)


def test_what_was_added_comes_back_now_and_after_a_restart(
    tmp_path: Path, file: VectorFile
) -> None:
    file.add(dict(zip(TEXTS, VECTORS, strict=True)))
    file.add({"long": None})
    file.sync()
    for one in (file, again := reopened(tmp_path)):
        for text, vector in zip(TEXTS, VECTORS, strict=True):
            np.testing.assert_array_equal(one.get(text), vector)
        assert (one.knows("long"), one.get("long")) == (True, None)
        assert (one.knows("other"), one.get("other")) == (False, None)
    again.close()


def test_what_is_added_after_a_restart_goes_behind_the_rest(
    tmp_path: Path, file: VectorFile
) -> None:
    file.add({"one": axis(1)})
    again = reopened(tmp_path)
    again.add({"two": axis(2)})
    again.close()
    last = reopened(tmp_path)
    assert len(last) == 2
    np.testing.assert_array_equal(last.get("one"), axis(1))
    np.testing.assert_array_equal(last.get("two"), axis(2))
    last.close()


@given(damage=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_record_is_not_known_and_costs_no_other(
    tmp_path_factory: pytest.TempPathFactory, damage: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("vectors")
    file = reopened(directory)
    file.add(dict(zip(TEXTS[:5], VECTORS[:5], strict=True)))
    file.close()
    path = directory / file_name(CHECKPOINT)
    data = bytearray(path.read_bytes())
    head = data.index(b"\n") + 1
    place = damage.draw(st.integers(head, len(data) - 1))
    data[place] ^= 1 << damage.draw(st.integers(0, 7))
    path.write_bytes(data)
    file = reopened(directory)
    hit = (place - head) // ((len(data) - head) // 5)
    assert [file.knows(text) for text in TEXTS[:5]] == [number != hit for number in range(5)]
    file.close()


@given(cut=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_torn_end_is_cut_off_and_written_over(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    directory = tmp_path_factory.mktemp("vectors")
    file = reopened(directory)
    file.add(dict(zip(TEXTS[:4], VECTORS[:4], strict=True)))
    file.close()
    path = directory / file_name(CHECKPOINT)
    data = path.read_bytes()
    path.write_bytes(data[: cut % (len(data) + 1)])
    file = reopened(directory)
    known = [file.knows(text) for text in TEXTS[:4]]
    assert known == sorted(known, reverse=True)  # the first ones
    file.add(dict(zip(TEXTS[:4], VECTORS[:4], strict=True)))
    file.close()
    file = reopened(directory)
    for text, vector in zip(TEXTS[:4], VECTORS[:4], strict=True):
        np.testing.assert_array_equal(file.get(text), vector)
    file.close()


def test_many_vectors_are_found_after_being_sorted_in(
    tmp_path: Path, file: VectorFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_file, "FRESH", 7)
    for text, vector in zip(TEXTS, VECTORS, strict=True):
        file.add({text: vector})
    for text, vector in zip(TEXTS, VECTORS, strict=True):
        np.testing.assert_array_equal(file.get(text), vector)


def test_vectors_of_another_length_are_not_read(tmp_path: Path, file: VectorFile) -> None:
    file.add({"one": axis(1)})
    other = VectorFile.open(tmp_path, CHECKPOINT, 5)
    assert not other.knows("one")
    other.close()


def test_the_files_of_other_checkpoints_go(tmp_path: Path, file: VectorFile) -> None:
    other = VectorFile.open(tmp_path, "mini-2", DIMENSION)
    other.close()
    delete_others(tmp_path, [CHECKPOINT])
    assert [path.name for path in tmp_path.iterdir()] == [file_name(CHECKPOINT)]
