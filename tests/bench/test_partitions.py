"""The partition case measures what it says, on a store small enough for a test."""

from __future__ import annotations

import numpy as np
import pytest

from bench.partitions import DIMENSION, HERE, fill_partition, measure, time_block, unit_vectors
from store.index import PartitionedIndex


async def test_a_small_run_compares_both_indexes() -> None:
    reading = await measure(others=200, size=20, blocks=2)
    alone, among = reading.parts.values()
    assert reading.value == pytest.approx(among / alone)
    assert alone > 0


async def test_a_partition_that_lost_entries_is_noticed() -> None:
    index = PartitionedIndex(DIMENSION)
    vectors = unit_vectors(3, np.random.default_rng(1))
    fill_partition(index, HERE, vectors)
    with pytest.raises(RuntimeError, match="gave 3 neighbors"):
        await time_block(index, vectors)
    await index.aclose()


def test_vectors_are_unit_rows() -> None:
    rows = unit_vectors(50, np.random.default_rng(2))
    assert rows.shape == (50, DIMENSION)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(50), abs=1e-5)
