"""Synthetic entries have neighbours, sizes and partitions such as real ones have."""

from __future__ import annotations

import zlib
from collections import Counter

import numpy as np
import pytest

from bench.population import (
    KINDS,
    LARGEST_BODY,
    MEAN_ENTRY,
    QUIET,
    WORDING,
    Population,
    partition_keys,
    shares,
)
from store.entry import Entry, check_vector, size_of


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return Population().entries(3000)


def vectors(entries: list[Entry]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([entry.vector for entry in entries], np.float32)


def test_the_same_seed_draws_the_same_entries() -> None:
    first, again = (Population(5).entries(20) for _ in range(2))
    assert [(e.id, e.key, e.category, e.body) for e in first] == [
        (e.id, e.key, e.category, e.body) for e in again
    ]
    np.testing.assert_array_equal(vectors(first), vectors(again))


def test_no_entry_is_drawn_twice() -> None:
    population = Population()
    drawn = [*population.entries(600), *population.entries(600)]
    assert len({entry.id for entry in drawn}) == 1200


def test_an_entry_has_near_neighbours_and_the_rest_is_far(entries: list[Entry]) -> None:
    rows = vectors(entries)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1)
    assert 0.6 < np.median(cosines.max(axis=1)) < 0.92  # near, but no hit
    assert abs(float(np.median(cosines))) < 0.05
    for row in rows[:50]:
        check_vector(row, len(row))


def test_a_new_wording_is_near_what_it_asks_for() -> None:
    population = Population()
    rows = vectors(population.entries(50))
    asked = population.wordings(rows)
    np.testing.assert_allclose(np.sum(asked * rows, axis=1), WORDING, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(asked, axis=1), 1, atol=1e-5)


def test_partitions_are_a_few_large_ones_and_many_small_ones(entries: list[Entry]) -> None:
    sizes = [count for _, count in Counter(entry.key for entry in entries).most_common()]
    assert 0.4 < sum(sizes[:3]) / len(entries) < 0.6
    assert sum(size == 1 for size in sizes) > 300
    keys, weights = partition_keys()
    assert len(weights) == len(keys) + 1
    assert weights.sum() == pytest.approx(1)
    assert weights.min() > 0


def test_sizes_spread_about_what_the_quotas_reckon_with(entries: list[Entry]) -> None:
    sizes = [size_of(entry) for entry in entries]
    assert np.mean(sizes) == pytest.approx(MEAN_ENTRY, rel=0.05)
    assert max(len(entry.body) for entry in entries) <= LARGEST_BODY + 200
    bodies = b"".join(entry.body for entry in entries[:200])
    assert 2 < len(bodies) / sum(len(zlib.compress(e.body, 1)) for e in entries[:200]) < 5


def test_traffic_and_room_differ_and_the_rooms_make_up_the_whole(entries: list[Entry]) -> None:
    quotas = {name: share.quota.entries for name, share in shares(10_000).items()}
    assert 9_990 <= sum(quotas.values()) <= 10_000
    assert len(quotas) == 10
    asked = Counter(entry.category for entry in entries)
    assert asked.keys() == KINDS.keys()
    assert asked[QUIET] / len(entries) < 0.2 * quotas[QUIET] / 10_000
    assert all(entry.category == "legal" for entry in Population().entries(30, "legal"))
