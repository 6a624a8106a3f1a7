"""What a process holds of a million entries, for `bench.million`: vectors, entries, quotas."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hnswlib
import numpy as np
import psutil

from bench.population import CHECKPOINT, DIMENSION, MEAN_ENTRY, Floats, Population
from store import hnsw, snapshot
from store.entry import EntryId, Held, PartitionKey
from store.eviction import Occupancy, Quota, Share
from store.index import PartitionedIndex
from store.journal import Mark

CHUNK = 20_000
SMALL = 10  # entries of a small partition
LARGE = PartitionKey(f"{1:032x}", f"{0:032x}")
CATEGORIES = ("facts", "how-to", "code", "conversation", "math")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def in_large(entries: int) -> int:
    """Return how many of so many entries lie in the one large partition."""
    return entries * 4 // 5


def key_of(number: int, small: int) -> PartitionKey:
    """Return an entry's partition: the numbers from `small` on lie in small ones."""
    if number < small:
        return LARGE
    return PartitionKey(f"{2:032x}", f"{(number - small) // SMALL:032x}")


def held_of(number: int, key: PartitionKey) -> Held:
    """Return an entry as memory holds it, no part of it shared that a store would not share."""
    return Held(
        id=EntryId(f"{number:032x}"),
        key=key,
        tenant=CATEGORIES[0],
        category=CATEGORIES[number % len(CATEGORIES)],
        query=f"what is to be said about matter {number}?",
        created_at=NOW + timedelta(seconds=number),
        size=MEAN_ENTRY + number % 1000,
        model="bench-model",
        cost=1.0 + number % 977 / 977,
    )


class Books:
    """What `store.cache` keeps of its entries, without documents."""

    def __init__(self, entries: int, index: PartitionedIndex) -> None:
        most = Quota(2 * entries, 2 * entries * MEAN_ENTRY)
        self.index = index
        self.held: dict[EntryId, Held] = {}
        self.occupancy = Occupancy({name: Share(most) for name in CATEGORIES})
        self.number = 0

    def hold(self, held: Held) -> None:
        """Note an entry."""
        self.held[held.id] = held
        self.occupancy.add(held.id, held.category, held.size, held.cost)

    def put(self, key: PartitionKey, vector: Floats) -> None:
        """Take another entry with its vector."""
        held = held_of(self.number, key)
        self.number += 1
        self.hold(held)
        self.index.put(key, held.id, vector)

    def contents(self) -> snapshot.Contents:
        """Return what a snapshot takes."""
        return snapshot.Contents(Mark("bench", self.number), self.held.values(), {}, [])


def chunks(entries: int) -> Iterator[Floats]:
    """Yield the vectors of so many entries, the same ones every time."""
    population = Population()
    for start in range(0, entries, CHUNK):
        yield population.vectors(min(CHUNK, entries - start))


def bare_seconds(entries: int, threads: int) -> float:
    """Return how long hnswlib alone takes to add so many vectors to one graph.

    They are whole chunks, the first ones that `build` puts.
    """
    graph = hnswlib.Index(space="ip", dim=DIMENSION)
    graph.init_index(2 * entries, M=hnsw.LINKS, ef_construction=hnsw.BUILD_BREADTH)
    spent, done = 0.0, 0
    for vectors in chunks(entries):
        started = time.perf_counter()
        graph.add_items(vectors, np.arange(done, done + len(vectors)), num_threads=threads)
        spent += time.perf_counter() - started
        done += len(vectors)
    return spent


async def build(books: Books, entries: int) -> tuple[list[float], Floats]:
    """Fill the books in a hurry: the large partition, then the small ones.

    Returns the seconds that each chunk of the large one took, and some of its vectors.
    """
    large, spent, samples = in_large(entries), list[float](), []
    with books.index.hurry():
        for vectors in chunks(large):
            started = time.perf_counter()
            for start in range(0, len(vectors), 500):  # as a restart reads its documents
                for vector in vectors[start : start + 500]:
                    books.put(LARGE, vector)
                await books.index.keep_pace()
                await asyncio.sleep(0)
            await books.index.settled()
            spent.append(time.perf_counter() - started)
            samples.append(vectors[:: max(1, large // 5_000)].copy())
            del vectors  # or a chunk is resident besides
        for vectors in chunks(entries - large):
            for vector in vectors:
                books.put(key_of(books.number, large), vector)
    await books.index.settled()
    return spent, np.concatenate(samples)


def restart(directory: Path, entries: int) -> dict[str, float]:
    """Read a snapshot in a process of its own; return seconds and bytes."""
    before = resident()
    started = time.perf_counter()
    taken = snapshot.read(directory, checkpoint=CHECKPOINT, dimension=DIMENSION)
    if taken is None:
        raise FileNotFoundError(f"no snapshot in {directory}")
    middle = time.perf_counter()
    books = Books(entries, taken.index)
    count = 0
    for block in taken.held():
        for held, _ in block:
            books.hold(held)
        count += len(block)
    ended = time.perf_counter()
    assert count == taken.entries
    return {
        "verified and index s": middle - started,
        "entries s": ended - middle,
        "entries per s": count / (ended - middle),
        "seconds": ended - started,
        "bytes per entry": (resident() - before) / count,
    }


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return psutil.Process(os.getpid()).memory_info().rss
