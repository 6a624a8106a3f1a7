"""A full cache, those who ask it, and those who feed it.

A lookup is what the proxy does for a new wording (`proxy/lookup.py`, `Pipeline.answer`): the exact
key, which misses; the 8 nearest; the document of the first that is near enough, from memory or
disk. Left out are the encoding before and the guards, policies and events between.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.bounds import ENTRIES, Watch
from bench.pacer import arrivals
from bench.population import CHECKPOINT, DIMENSION, QUIET, Population, shares
from store.cache import HOT_BYTES, Cache
from store.documents.sqlite import SqliteDocuments
from store.entry import Admission, Entry, EntryId, PartitionKey, Vector, size_of
from store.index import PartitionedIndex
from store.journal import Put, Record
from store.policy import HIT_THRESHOLD

NEIGHBORS = 8  # as proxy/lookup.py
FILLED_AT_ONCE = 64  # admissions under way while the cache is filled
ASKED = 10_000  # entries that lookups ask for
POPULARITY = 0.9  # exponent: how much more often the first of them are asked for
QUIET_PART = 0.1  # of its quota that the quiet category holds after the filling
SETTLING = 0.5  # seconds of churn before its lookups begin, and of rest after it


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    entries: int
    pairs: int
    seconds: float  # of lookups in one half of a pair
    lookups: float  # a second
    admissions: float  # a second
    hot_bytes: int = HOT_BYTES


@dataclass(frozen=True, slots=True)
class Wording:
    """A question that nobody asked in these words before."""

    id: EntryId
    key: PartitionKey
    vector: Vector


@dataclass(slots=True)
class Load:
    """What a time of lookups, of admissions or of both came to."""

    times: list[float] = field(default_factory=list)  # ms, of lookups
    places: Counter[str] = field(default_factory=Counter)  # where answers were
    admitted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0  # of admissions
    pauses: list[float] = field(default_factory=list)  # ms that each full collection took
    own: float = 0.0  # processor time of this process, in % of a core
    others: float = 0.0  # and of everybody else

    def percentile(self, share: float) -> float:
        """Return a percentile of the lookups' times in ms."""
        return float(np.percentile(self.times, share))


class FullCache:
    """A cache at its capacity, or on the way there."""

    def __init__(self, plan: Plan, cache: Cache, index: PartitionedIndex) -> None:
        self._plan = plan
        self._cache = cache
        self._index = index
        self._population = Population()
        self._shares = shares(plan.entries)
        self._asked: list[Entry] = []
        self.watch = Watch(self._shares, cache.facts())

    async def fill(self) -> None:
        """Admit until somebody has to go; the quiet category stops early."""
        most = QUIET_PART * self._shares[QUIET].quota.entries
        stride = max(1, self._plan.entries // ASKED)
        while not self.watch.evictions:
            part = [
                entry
                for entry in self._population.entries(FILLED_AT_ONCE)
                if entry.category != QUIET or self.watch.held[QUIET][ENTRIES] < most
            ]
            await asyncio.gather(*map(self._cache.admit, part))
            self._asked += [entry for entry in part if int(entry.id, 16) % stride == 0]
        random.Random(7).shuffle(self._asked)
        await self.rest()

    async def rest(self) -> None:
        """Wait until nothing goes on in the background."""
        await self._index.settled()
        await asyncio.sleep(SETTLING)  # the last deletions take a few ms

    def applied(self, record: Record) -> None:
        """Check what is held right after an entry has been taken up."""
        if isinstance(record.change, Put):
            held = record.change.stored.held
            self.watch.admitted(held.category, held.size, self._cache.facts())

    async def look_up(self, wording: Wording) -> str:
        """Look a wording up as the proxy does; return where its answer was."""
        if self._cache.exact(wording.id) is not None:
            return "exact"
        for held, similarity, _ in await self._cache.similar(
            wording.key, wording.vector, NEIGHBORS, checkpoint=CHECKPOINT
        ):
            if similarity < HIT_THRESHOLD:
                break
            place = "disk" if self._cache.hot(held.id) is None else "memory"
            if await self._cache.document(held.id) is None:
                return "lost"  # evicted while it was read: the proxy forwards
            self._cache.touch(held.id)
            return place
        return "nowhere"

    def wordings(self, count: int, seed: int) -> list[Wording]:
        """Return questions about what was admitted, the popular ones more often."""
        weights = [(rank + 1) ** -POPULARITY for rank in range(len(self._asked))]
        chosen = random.Random(seed).choices(self._asked, weights, k=count)
        vectors = self._population.wordings(np.array([entry.vector for entry in chosen]))
        return [
            Wording(EntryId(f"wording-{seed}-{number}"), entry.key, vector)
            for number, (entry, vector) in enumerate(zip(chosen, vectors, strict=True))
        ]

    async def measure(self, wordings: list[Wording], seed: int, *, busy: bool) -> Load:
        """Ask at the plan's rate, under churn or not."""
        load = Load()
        asked, tasks = iter(wordings), set[asyncio.Task[None]]()

        async def ask(stamp: int, wording: Wording) -> None:
            load.places[await self.look_up(wording)] += 1
            load.times.append((time.monotonic_ns() - stamp) / 1e6)

        def begin(stamp: int) -> None:
            keep(asyncio.create_task(ask(stamp, next(asked))), tasks)

        seconds = 2 * (len(wordings) / self._plan.lookups + SETTLING)  # longer than it takes
        count = int(self._plan.admissions * seconds) if busy else 0
        drawn = self._population.entries(count)
        newcomers = iter([entry for entry in drawn if entry.category != QUIET])
        async with self._churning(newcomers, load):
            await asyncio.sleep(SETTLING)
            with timing_collections(load.pauses), timing_processors(load):
                await arrivals(self._plan.lookups, len(wordings), seed, begin)
                if tasks:
                    await asyncio.wait(tasks)
        await self.rest()
        return load

    async def reclaim(self) -> Load:
        """Let the quiet category admit until it has all of its room."""
        load = Load()
        newcomers = self._population.entries(2 * self._shares[QUIET].quota.entries, QUIET)
        # One under way too many would have to go at its own category's cost: it proves nothing.
        await self._feed(iter(newcomers), load, lambda e: self.watch.has_room(QUIET, size_of(e)))
        await self.rest()
        return load

    @asynccontextmanager
    async def _churning(self, newcomers: Iterator[Entry], load: Load) -> AsyncIterator[None]:
        feeding = asyncio.create_task(self._feed(newcomers, load, lambda _: True))
        try:
            yield
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])
            if not feeding.cancelled():
                feeding.result()

    async def _feed(
        self, newcomers: Iterator[Entry], load: Load, wanted: Callable[[Entry], bool]
    ) -> None:
        """Admit at the plan's rate, each entry in a task of its own, until one is not wanted."""
        tasks = set[asyncio.Task[None]]()

        async def admit(entry: Entry) -> None:
            outcome = await self._cache.admit(entry)
            if outcome is Admission.STORED:
                load.admitted += 1
            else:
                load.refused[outcome] += 1

        gaps = random.Random(7)
        started = due = time.monotonic()
        try:
            for entry in newcomers:
                due += gaps.expovariate(self._plan.admissions)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not wanted(entry):
                    break
                keep(asyncio.create_task(admit(entry)), tasks)
        finally:
            load.seconds = time.monotonic() - started
            if tasks:
                await asyncio.wait(tasks)


@asynccontextmanager
async def open_full_cache(plan: Plan, folder: Path) -> AsyncIterator[FullCache]:
    """Yield a cache that is full, over a file in the folder."""
    index = PartitionedIndex(DIMENSION)
    async with aclosing(SqliteDocuments.open(folder)) as documents, aclosing(index):
        cache = await Cache.open(
            documents,
            index=index,
            shares=shares(plan.entries),
            checkpoint=CHECKPOINT,
            hot_bytes=plan.hot_bytes,
        )
        async with aclosing(cache):
            full = FullCache(plan, cache, index)
            documents.follow(full.applied)  # after the cache itself
            await full.fill()
            yield full


@contextmanager
def timing_collections(times: list[float]) -> Iterator[None]:
    """Note how long each full collection of garbage stops the process, in ms."""
    started = 0.0

    def note(phase: str, info: dict[str, Any]) -> None:
        nonlocal started
        if info["generation"] < 2:
            return
        if phase == "start":
            started = time.perf_counter()
        else:
            times.append((time.perf_counter() - started) * 1e3)

    gc.callbacks.append(note)
    try:
        yield
    finally:
        gc.callbacks.remove(note)


@contextmanager
def timing_processors(load: Load) -> Iterator[None]:
    """Note how much of a core this process takes meanwhile, and how much others do."""
    started, own, everybody = time.monotonic(), time.process_time(), processor_seconds()
    yield
    elapsed, own = time.monotonic() - started, time.process_time() - own
    load.own = 100 * own / elapsed
    load.others = 100 * (processor_seconds() - everybody) / elapsed - load.own


def processor_seconds() -> float:
    """Return the seconds that all cores of this machine have worked, or were taken from it."""
    spent = psutil.cpu_times()
    return float(spent.user + spent.nice + spent.system + spent.irq + spent.softirq + spent.steal)


def keep(task: asyncio.Task[None], tasks: set[asyncio.Task[None]]) -> None:
    """Hold on to a task until it is done; what it raises ends the process's measurement."""
    tasks.add(task)
    task.add_done_callback(tasks.discard)
