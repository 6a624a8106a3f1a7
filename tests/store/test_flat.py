from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from store.entry import Vector
from store.flat import Flat, View, scan
from tests.entries import DIMENSION, axis, directions, near

VECTORS = directions(60)


def filled(*vectors: Vector) -> Flat:
    flat = Flat(DIMENSION)
    for label, vector in enumerate(vectors):
        flat.put(label, vector)
    return flat


def test_the_nearest_come_first_with_their_cosines() -> None:
    flat = filled(axis(3), near(0, 0.6), axis(0), near(0, 0.9))
    found = scan(flat.view(), axis(0), 3)
    assert [label for label, _ in found] == [2, 3, 1]
    np.testing.assert_allclose([cosine for _, cosine in found], [1, 0.9, 0.6], rtol=1e-6)


def test_fewer_vectors_than_asked_for_are_all_returned() -> None:
    assert len(scan(filled(axis(0), axis(1)).view(), axis(0), 10)) == 2


def test_an_empty_set_finds_nothing() -> None:
    assert scan(Flat(DIMENSION).view(), axis(0), 4) == []


def test_a_released_row_is_found_no_more_and_is_used_again() -> None:
    flat = filled(axis(0), axis(1), axis(2))
    flat.release(1)
    assert 1 not in flat
    assert [label for label, _ in scan(flat.view(), axis(1), 3)] != [1]
    flat.put(3, axis(1))
    assert flat.rows == 3
    assert scan(flat.view(), axis(1), 1) == [(3, 1.0)]


def test_releasing_an_unknown_label_changes_nothing() -> None:
    flat = filled(axis(0))
    flat.release(99)
    assert len(flat) == 1


def test_memory_follows_the_number_of_vectors_both_ways() -> None:
    flat = Flat(DIMENSION)
    assert flat.capacity == 1
    for label in range(1000):
        flat.put(label, VECTORS[label % 60])
    assert 1000 <= flat.capacity <= 1125
    for label in range(999, 9, -1):
        flat.release(label)
    assert flat.capacity <= 64
    assert len(scan(flat.view(), axis(0), 20)) == 10


def test_a_view_outlives_growth_and_release() -> None:
    flat = filled(*VECTORS[:4])
    view = flat.view()
    for label in range(4, 60):
        flat.put(label, VECTORS[label])
    assert {label for label, _ in scan(view, axis(0), 60)} == {0, 1, 2, 3}


def test_the_tail_holds_the_last_rows_that_are_in_use() -> None:
    flat = filled(*VECTORS[:6])
    flat.release(4)
    labels, vectors = flat.tail(3)
    assert labels == [3, 5]
    np.testing.assert_array_equal(vectors, [VECTORS[3], VECTORS[5]])
    flat.release(5)
    flat.put(6, axis(0))
    np.testing.assert_array_equal(vectors[1], VECTORS[5])


class Meddling:
    """Rows that change hands in the middle of the product, as another thread could do it."""

    def __init__(self, flat: Flat, meddle: Any) -> None:
        self._rows = flat.view().rows
        self._meddle = meddle

    def __matmul__(self, vector: Vector) -> npt.NDArray[np.float32]:
        self._meddle()
        return np.asarray(self._rows @ vector, np.float32)


def test_a_row_that_changes_hands_during_the_scan_is_left_out() -> None:
    flat = filled(axis(0), axis(1), axis(2))

    def meddle() -> None:
        flat.release(1)
        flat.put(3, axis(0))  # into the row of label 1

    rows = cast(npt.NDArray[np.float32], Meddling(flat, meddle))
    found = scan(View(rows, flat.view().labels), axis(0), 3)
    assert {label for label, _ in found} == {0, 2}


@given(
    st.lists(
        st.one_of(st.just(-1), st.integers(min_value=0, max_value=59)), min_size=1, max_size=120
    ),
    st.integers(min_value=1, max_value=12),
)
def test_any_history_finds_what_brute_force_finds(steps: list[int], k: int) -> None:
    """-1 puts the next vector; any other number releases a label."""
    flat, alive = Flat(DIMENSION), dict[int, Vector]()
    labels = iter(range(len(steps)))
    for step in steps:
        if step < 0:
            label = next(labels)
            alive[label] = VECTORS[label % 60]
            flat.put(label, alive[label])
        else:
            flat.release(step)
            alive.pop(step, None)
    query = VECTORS[17]
    expected = sorted((float(vector @ query) for vector in alive.values()), reverse=True)[:k]
    found = scan(flat.view(), query, k)
    assert len(flat) == len(alive)
    np.testing.assert_allclose([cosine for _, cosine in found], expected, atol=1e-6)
    assert all(abs(cosine - float(alive[label] @ query)) < 1e-6 for label, cosine in found)
