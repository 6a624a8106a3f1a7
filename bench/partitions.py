"""Lookup in a partition of 20, alone and among 200,000 entries of other partitions, in process.

`python -m bench.partitions` prints one JSON object; it runs alone because it takes 1 GB.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import numpy as np
import numpy.typing as npt
import orjson
import uvloop

from bench.verdicts import Reading
from store.entry import EntryId, PartitionKey
from store.index import PartitionedIndex

Floats = npt.NDArray[np.float32]

DIMENSION = 384
SIZE = 20
OTHERS = 200_000
SEARCHES = 200  # in one block
BLOCKS = 15  # of each index, in turn, so that noise meets both
NEIGHBORS = 5
HERE = PartitionKey("here", "")


def unit_vectors(count: int, random: np.random.Generator) -> Floats:
    """Return random unit rows of shape (count, DIMENSION)."""
    rows = random.standard_normal((count, DIMENSION), dtype=np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def fill_partition(index: PartitionedIndex, key: PartitionKey, vectors: Floats) -> None:
    """Put every row under an id of its own."""
    for number, vector in enumerate(vectors):
        index.put(key, EntryId(f"{key.partition}-{number}"), vector)


async def time_block(index: PartitionedIndex, queries: Floats) -> list[float]:
    """Return the time of every search in microseconds."""
    times = []
    for query in queries:
        started = time.perf_counter()
        found = await index.search(HERE, query, NEIGHBORS)
        times.append((time.perf_counter() - started) * 1e6)
        if len(found) != NEIGHBORS:
            raise RuntimeError(f"a partition of {SIZE} gave {len(found)} neighbors")
    return times


async def measure(others: int = OTHERS, size: int = SIZE, blocks: int = BLOCKS) -> Reading:
    """Return the p50 among the others over the p50 alone."""
    random = np.random.default_rng(7)
    mine = unit_vectors(size, random)
    alone, crowded = PartitionedIndex(DIMENSION), PartitionedIndex(DIMENSION)
    for number in range(others // size):
        key = PartitionKey(f"other-{number}", "")
        fill_partition(crowded, key, unit_vectors(size, random))
    for index in (alone, crowded):
        fill_partition(index, HERE, mine)
    queries = unit_vectors(SEARCHES, random)
    times: dict[str, list[float]] = {"alone": [], "crowded": []}
    for _ in range(blocks):
        times["alone"] += await time_block(alone, queries)
        times["crowded"] += await time_block(crowded, queries)
    for index in (alone, crowded):
        await index.aclose()
    return _compare(times["alone"], times["crowded"])


def _compare(alone: Sequence[float], crowded: Sequence[float]) -> Reading:
    parts = {"alone p50 us": median(alone), "among 200,000 p50 us": median(crowded)}
    return Reading(value=median(crowded) / median(alone), parts=parts)


async def main() -> None:
    """Measure and print the reading."""
    reading = await measure()
    print(orjson.dumps({"value": reading.value, "parts": reading.parts}).decode())


if __name__ == "__main__":
    uvloop.run(main())
