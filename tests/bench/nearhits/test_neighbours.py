"""The examples of the arms that do without the proxy."""

from __future__ import annotations

import numpy as np

from bench.nearhits.neighbours import SHARED_BY, nearest, random_examples
from bench.nearhits.tasks import Item

ITEMS = [Item("a", f"{number}?", str(number)) for number in range(20)]


def test_the_nearest_stands_last() -> None:
    stored = np.eye(4, dtype=np.float32)
    asked = np.array([[0.1, 0.9, 0.3, 0.2]], dtype=np.float32)
    assert nearest(asked, stored, ITEMS[:4], 2) == [[ITEMS[2], ITEMS[1]]]


def test_random_examples_are_shared_by_ten_and_the_same_for_a_seed() -> None:
    drawn = random_examples(25, ITEMS, 1)
    assert drawn == random_examples(25, ITEMS, 1) != random_examples(25, ITEMS, 2)
    assert len(drawn) == 25
    assert drawn[0] is drawn[SHARED_BY - 1]
    assert drawn[0] != drawn[SHARED_BY]
    assert all(len(set(row)) == 5 for row in drawn)
