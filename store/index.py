"""Vectors by partition: a flat matrix while a partition is small, HNSW graphs when it is large.

Everything that changes what lives belongs to the event loop: an id is gone, and a vector is
there, when the call returns. Threads only search, and move vectors from a flat matrix into a
graph behind its back; whatever they bring is checked against the living as the last step.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Protocol, TypeVar, TypeVarTuple

from store.allocator import give_back
from store.entry import EntryId, Neighbor, PartitionKey, Vector, check_vector
from store.flat import Found, View, scan
from store.hnsw import Graph
from store.labels import Labels
from store.partition import BURIED_AT_ONCE, Partition

PROMOTE_ROWS = 4096  # a flat search costs 0.15 ms here, about what a graph's does
INLINE_ROWS = 512  # up to here a thread hop costs more than the search
MOVED_AT_ONCE = 32  # vectors per trip of the writer thread
HURRIED_AT_ONCE = 4096  # the same while nobody searches
BACKLOG = 8192  # rows of a matrix that `keep_pace` lets wait for their graph
LONGEST_REST = 0.1  # seconds
GRAPH_GROWTH = 2  # a new graph's capacity, in times of what the partition holds
HURRIED_GROWTH = 1.25  # of a graph's capacity, while nobody searches: an empty slot is 54 bytes

logger = logging.getLogger(__name__)
Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class EarlySearch:
    """A search of what a partition holds now, for the thread that has the vector first."""

    __slots__ = ("_graphs", "_k", "_partition", "_view")

    def __init__(self, partition: Partition, k: int) -> None:
        self._partition = partition
        self._k = k
        self._view, self._graphs = partition.flat.view(), partition.graphs

    @property
    def quick(self) -> bool:
        """Whether it costs less than to tell a thread of it."""
        return not self._graphs and len(self._view.labels) <= INLINE_ROWS

    def run(self, vector: Vector) -> Found:
        """Search, in any thread. The vector has shape (d,) and unit length."""
        return find(self._view, self._graphs, vector, self._k)

    def neighbors(self, found: Found) -> list[Neighbor]:
        """Return who of what was found lives by now, nearest first; on the event loop."""
        return self._partition.name(found, self._k)


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

    def early(self, key: PartitionKey, k: int) -> EarlySearch | None:
        """Return a search of what the partition holds now; None if that is nothing."""
        ...

    def count(self, key: PartitionKey) -> int:
        """Return how many ids the partition holds."""
        ...

    def holds(self, key: PartitionKey, id: EntryId) -> bool:
        """Whether the id is findable in the partition."""
        ...

    async def fetch(self, wanted: Iterable[tuple[PartitionKey, EntryId]]) -> dict[EntryId, Vector]:
        """Return copies of the vectors of those that are findable.

        Takes the event loop two microseconds or so for each: ask for some hundreds at a time.
        """
        ...

    def hurry(self) -> AbstractContextManager[None]:
        """Inside, background work comes before searches: for filling it while nobody asks."""
        ...

    async def keep_pace(self) -> None:
        """Wait until background work is not far behind the puts; for whoever puts very many."""
        ...

    async def aclose(self) -> None:
        """Stop background work and free threads."""
        ...


class PartitionedIndex:
    """The VectorIndex of this process. All methods are called from one event loop."""

    def __init__(
        self, dimension: int, *, promote_rows: int = PROMOTE_ROWS, threads: int | None = None
    ) -> None:
        self.dimension = dimension
        self._promote_rows = promote_rows
        self._partitions: dict[PartitionKey, Partition] = {}
        self.labels = Labels()  # of all partitions
        self._workers = threads or os.cpu_count() or 1
        self._searchers = ThreadPoolExecutor(self._workers, thread_name_prefix="nearhit-search")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="nearhit-index")
        self._busy: dict[Partition, None] = {}  # in turn order
        self._tended: Partition | None = None  # whose turn it is
        self._work: asyncio.Task[None] | None = None
        self._slice = asyncio.Lock()  # held while vectors are on their way
        self._sliced = asyncio.Event()  # set, and replaced, after each slice
        self._hurried = False
        self._rested = False  # whether the work under way has left the cores to others itself

    def put(self, key: PartitionKey, id: EntryId, vector: Vector) -> None:
        check_vector(vector, self.dimension)
        partition = self._partitions.get(key)
        if partition is None:
            partition = self._partitions[key] = Partition(self.dimension, self.labels)
        partition.put(id, vector)
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
        search = self.early(key, k)
        if search is None:
            return []
        if search.quick:
            return search.neighbors(search.run(vector))
        return search.neighbors(await run_in(self._searchers, search.run, vector))

    def early(self, key: PartitionKey, k: int) -> EarlySearch | None:
        partition = self._partitions.get(key)
        return None if partition is None or k < 1 else EarlySearch(partition, k)

    def count(self, key: PartitionKey) -> int:
        partition = self._partitions.get(key)
        return 0 if partition is None else len(partition.labels)

    def holds(self, key: PartitionKey, id: EntryId) -> bool:
        partition = self._partitions.get(key)
        return partition is not None and id in partition.labels

    async def fetch(self, wanted: Iterable[tuple[PartitionKey, EntryId]]) -> dict[EntryId, Vector]:
        found: dict[EntryId, Vector] = {}
        elsewhere: dict[Graph, dict[EntryId, int]] = {}
        for key, id in wanted:
            partition = self._partitions.get(key)
            label = None if partition is None else partition.labels.get(id)
            if partition is None or label is None:
                continue
            graph = partition.graph_of(label)
            if graph is None:
                found[id] = partition.flat.fetch(label)
            else:
                elsewhere.setdefault(graph, {})[id] = label
        if elsewhere:
            # All in one go: whoever dies from now on is buried by the same thread, after this.
            found |= await run_in(self._writer, taken_from, elsewhere)
        return found

    @property
    def partitions(self) -> int:
        """How many partitions hold anything."""
        return len(self._partitions)

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """Inside, vectors go into graphs many at a time, with all threads and without rests."""
        self._hurried = True
        try:
            yield
        finally:
            self._hurried = False
            give_back()

    async def keep_pace(self) -> None:
        while self._work is not None and not self._work.done():
            waiting = [*self._busy, *([self._tended] if self._tended is not None else [])]
            if all(len(partition.flat) <= BACKLOG for partition in waiting):
                return
            await self._sliced.wait()

    async def settled(self) -> None:
        """Wait until no background work is left."""
        while self._work is not None and not self._work.done():
            await asyncio.wait([self._work])

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Inside, no vector is on its way and no thread changes a graph; searches go on."""
        async with self._slice:
            yield

    def contents(self) -> Iterable[tuple[PartitionKey, Partition]]:
        """Return all partitions, to be saved inside `still`."""
        return self._partitions.items()

    def adopt(self, key: PartitionKey, partition: Partition) -> None:
        """Take over a partition whose vectors are in the table of labels already."""
        self._partitions[key] = partition

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
            partition = self._tended = next(iter(self._busy))
            del self._busy[partition]
            async with self._slice:
                started = clock()
                self._rested = self._hurried
                try:
                    if await self._tend(partition):
                        self._busy[partition] = None
                except Exception:  # out of memory, say: its vectors stay where they are, findable
                    logger.exception("moving vectors into a graph failed; the next put tries again")
            self._tended = None
            self._sliced.set()
            self._sliced = asyncio.Event()
            await asyncio.sleep(0 if self._rested else min(clock() - started, LONGEST_REST))

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
        labels, graph.leaving = self.labels.some_in(graph.number, MOVED_AT_ONCE, graph.leaving)
        vectors = await run_in(self._writer, graph.fetch, labels)
        for label, vector in zip(labels, vectors, strict=True):
            partition.out_of_graph(graph, label, vector)

    async def _drain(self, partition: Partition) -> None:
        """Move some vectors from the flat matrix into a graph; in between both have them."""
        hurried = self._hurried
        graph = await self._graph_with_room(partition)
        most = HURRIED_AT_ONCE if hurried else MOVED_AT_ONCE
        labels, vectors = partition.flat.tail(min(most, graph.room))
        graph.taken += len(labels)
        try:
            if hurried:
                await run_in(self._writer, graph.add_many, labels, vectors, self._workers)
            else:
                await run_in(self._writer, graph.add, labels, vectors)
                self._rested = True
        except Exception:
            graph.closed = True  # what it took before it failed is unknown: it takes no more
            raise
        partition.into_graph(graph, labels)

    async def _graph_with_room(self, partition: Partition) -> Graph:
        open_ones = [graph for graph in partition.graphs if not graph.closed]
        for graph in open_ones:
            if graph.room:
                return graph
        if self._hurried and open_ones:
            graph = open_ones[-1]
            await run_in(self._writer, graph.grow, int(HURRIED_GROWTH * graph.capacity))
            return graph
        capacity = GRAPH_GROWTH * max(len(partition.labels), self._promote_rows)
        number = self.labels.next_graph()
        graph = await run_in(self._writer, Graph, self.dimension, capacity, number)
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


def taken_from(graphs: dict[Graph, dict[EntryId, int]]) -> dict[EntryId, Vector]:
    """Return the vectors of labels that live in these graphs, in the writer's thread."""
    found: dict[EntryId, Vector] = {}
    for graph, labels in graphs.items():
        found.update(zip(labels, graph.fetch(list(labels.values())), strict=True))
    return found
