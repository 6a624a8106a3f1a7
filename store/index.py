"""Vectors by partition: a flat matrix while a partition is small, HNSW graphs when it is large.

Everything that changes what lives belongs to the event loop: an id is gone, and a vector is
there, when the call returns. Threads only search, and move vectors from a flat matrix into a
graph behind its back; whatever they bring is checked against the living as the last step.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, TypeVarTuple

from store.entry import EntryId, Neighbor, PartitionKey, Vector, check_vector
from store.flat import Flat, Found, View, scan
from store.hnsw import Graph

PROMOTE_ROWS = 4096  # a flat search costs 0.15 ms here, about what a graph's does
INLINE_ROWS = 512  # up to here a thread hop costs more than the search
# Newcomers wait in the matrix beside a graph: scanning this part of PROMOTE_ROWS costs some 20 us a
# search, while moving them one by one would cost every admission a trip of the writer thread.
KEPT_SHARE = 16
MOVED_AT_ONCE = 32  # vectors per trip of the writer thread
BURIED_AT_ONCE = 16  # a search asks for as many more neighbours meanwhile
LONGEST_REST = 0.1  # seconds
GRAPH_GROWTH = 2  # a new graph's capacity, in times of what the partition holds

logger = logging.getLogger(__name__)
Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class VectorIndex(Protocol):
    """Unit vectors of one checkpoint, in partitions that never see each other."""

    dimension: int

    def put(self, key: PartitionKey, id: EntryId, vector: Vector) -> None:
        """Make the id findable under a unit vector of shape (d,), in place of any earlier one.

        Raises ValueError for another shape or length.
        """
        ...

    def remove(self, key: PartitionKey, id: EntryId) -> bool:
        """Forget the id; no search returns it from now on, one under way included."""
        ...

    async def search(self, key: PartitionKey, vector: Vector, k: int) -> list[Neighbor]:
        """Return up to k living neighbors in the partition, nearest first."""
        ...

    def count(self, key: PartitionKey) -> int:
        """Return how many ids the partition holds."""
        ...

    async def aclose(self) -> None:
        """Stop background work and free threads."""
        ...


class Partition:
    """One vector set: newcomers in `flat`, and once it was large, most of it in `graphs`."""

    __slots__ = ("flat", "graphs", "ids", "labels")

    def __init__(self, dimension: int) -> None:
        self.flat = Flat(dimension)
        self.graphs: tuple[Graph, ...] = ()
        self.labels: dict[EntryId, int] = {}
        self.ids: dict[int, EntryId] = {}  # the living; a label stands for one vector for ever

    def put(self, id: EntryId, label: int, vector: Vector) -> None:
        self.remove(id)
        self.flat.put(label, vector)
        self.labels[id] = label
        self.ids[label] = id

    def remove(self, id: EntryId) -> bool:
        label = self.labels.pop(id, None)
        if label is None:
            return False
        del self.ids[label]
        self.flat.release(label)
        for graph in self.graphs:
            if label in graph.live:
                graph.live.remove(label)
                graph.dead.append(label)
        return True

    def name(self, found: Found, k: int) -> list[Neighbor]:
        """Turn labels into neighbors, leaving out whoever died since they were found."""
        cosines = {label: cosine for label, cosine in found if label in self.ids}
        nearest = heapq.nlargest(k, cosines.items(), key=lambda pair: pair[1])
        return [Neighbor(self.ids[label], max(-1.0, min(1.0, c))) for label, c in nearest]

    def settle(self, promote_rows: int) -> None:
        """Close graphs that no longer pay, and let go of closed ones that are empty."""
        small = len(self.labels) < promote_rows // 4
        for graph in self.graphs:
            graph.closed = graph.closed or small or graph.sparse
        self.graphs = tuple(graph for graph in self.graphs if graph.live or not graph.closed)

    @property
    def has_dead(self) -> bool:
        """Whether enough have died in a graph to be buried together."""
        return any(len(graph.dead) >= BURIED_AT_ONCE for graph in self.graphs)

    def overflows(self, promote_rows: int) -> bool:
        """Whether vectors of the flat matrix belong in a graph."""
        large = len(self.labels) > promote_rows or any(not g.closed for g in self.graphs)
        return len(self.flat) > (promote_rows // KEPT_SHARE if large else promote_rows)


class PartitionedIndex:
    """The VectorIndex of this process. All methods are called from one event loop."""

    def __init__(
        self, dimension: int, *, promote_rows: int = PROMOTE_ROWS, threads: int | None = None
    ) -> None:
        self.dimension = dimension
        self._promote_rows = promote_rows
        self._partitions: dict[PartitionKey, Partition] = {}
        self._next_label = itertools.count().__next__
        workers = threads or os.cpu_count() or 1
        self._searchers = ThreadPoolExecutor(workers, thread_name_prefix="nearhit-search")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="nearhit-index")
        self._busy: dict[Partition, None] = {}  # in turn order
        self._work: asyncio.Task[None] | None = None

    def put(self, key: PartitionKey, id: EntryId, vector: Vector) -> None:
        check_vector(vector, self.dimension)
        partition = self._partitions.get(key)
        if partition is None:
            partition = self._partitions[key] = Partition(self.dimension)
        partition.put(id, self._next_label(), vector)
        if partition.has_dead or partition.overflows(self._promote_rows):
            self._tend_soon(partition)

    def remove(self, key: PartitionKey, id: EntryId) -> bool:
        partition = self._partitions.get(key)
        if partition is None or not partition.remove(id):
            return False
        if not partition.labels:
            del self._partitions[key]
        elif partition.has_dead:
            self._tend_soon(partition)
        return True

    async def search(self, key: PartitionKey, vector: Vector, k: int) -> list[Neighbor]:
        partition = self._partitions.get(key)
        if partition is None or k < 1:
            return []
        view, graphs = partition.flat.view(), partition.graphs
        if not graphs and len(view.labels) <= INLINE_ROWS:
            return partition.name(scan(view, vector, k), k)
        found = await run_in(self._searchers, find, view, graphs, vector, k)
        return partition.name(found, k)

    def count(self, key: PartitionKey) -> int:
        partition = self._partitions.get(key)
        return 0 if partition is None else len(partition.labels)

    @property
    def partitions(self) -> int:
        """How many partitions hold anything."""
        return len(self._partitions)

    async def settled(self) -> None:
        """Wait until no background work is left."""
        while self._work is not None and not self._work.done():
            await asyncio.wait([self._work])

    async def aclose(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        self._busy.clear()
        for executor in (self._searchers, self._writer):
            await asyncio.to_thread(executor.shutdown, cancel_futures=True)

    def _tend_soon(self, partition: Partition) -> None:
        self._busy[partition] = None
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._tend_all(), name="nearhit-index")

    async def _tend_all(self) -> None:
        """Work at most half of the time: whoever searches needs the cores, too."""
        clock = asyncio.get_running_loop().time
        while self._busy:
            partition = next(iter(self._busy))
            del self._busy[partition]
            started = clock()
            try:
                if await self._tend(partition):
                    self._busy[partition] = None
            except Exception:  # out of memory, say: its vectors stay where they are and are found
                logger.exception("moving vectors into a graph failed; the next put tries again")
            await asyncio.sleep(min(clock() - started, LONGEST_REST))

    async def _tend(self, partition: Partition) -> bool:
        """Do one slice of a partition's background work; return whether there may be more."""
        partition.settle(self._promote_rows)
        for graph in partition.graphs:
            if len(graph.dead) >= BURIED_AT_ONCE:
                dead, graph.dead = graph.dead, []
                await run_in(self._writer, graph.bury, dead)
                return True
        if partition.overflows(self._promote_rows):  # first, or whom we move out would pile up
            await self._drain(partition)
            return True
        for graph in partition.graphs:
            if graph.closed:
                await self._evacuate(partition, graph)
                return True
        return False

    async def _evacuate(self, partition: Partition, graph: Graph) -> None:
        """Move some vectors back into the flat matrix.

        They are not marked in the graph: a search under way may have scanned the matrix
        before they came, and must still find them here.
        """
        labels = list(itertools.islice(graph.live, MOVED_AT_ONCE))
        vectors = await run_in(self._writer, graph.fetch, labels)
        for label, vector in zip(labels, vectors, strict=True):
            if label in partition.ids:
                partition.flat.put(label, vector)
                graph.live.remove(label)

    async def _drain(self, partition: Partition) -> None:
        """Move some vectors from the flat matrix into a graph; in between both have them."""
        graph = await self._graph_with_room(partition)
        labels, vectors = partition.flat.tail(min(MOVED_AT_ONCE, graph.room))
        graph.taken += len(labels)
        try:
            await run_in(self._writer, graph.add, labels, vectors)
        except Exception:
            graph.closed = True  # what it took before it failed is unknown: it takes no more
            raise
        for label in labels:
            if label in partition.ids:
                graph.live.add(label)
                partition.flat.release(label)
            else:
                graph.dead.append(label)  # removed on the way in

    async def _graph_with_room(self, partition: Partition) -> Graph:
        for graph in partition.graphs:
            if not graph.closed and graph.room:
                return graph
        capacity = GRAPH_GROWTH * max(len(partition.labels), self._promote_rows)
        graph = await run_in(self._writer, Graph, self.dimension, capacity)
        partition.graphs = (*partition.graphs, graph)
        return graph


async def run_in(executor: ThreadPoolExecutor, function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run the function in one of the executor's threads."""
    return await asyncio.get_running_loop().run_in_executor(executor, function, *args)


def find(view: View, graphs: tuple[Graph, ...], vector: Vector, k: int) -> Found:
    """Search a partition's parts, in a thread.

    The matrix comes first: a vector leaves it only once it is in a graph, so whoever is on the
    way cannot slip through.
    """
    found = scan(view, vector, k) if len(view.labels) else []
    for graph in graphs:
        found += graph.nearest(vector, k)
    return found
