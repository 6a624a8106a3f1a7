"""One partition's vectors: where they are, and when they have to be somewhere else."""

from __future__ import annotations

import heapq

from store.entry import EntryId, Neighbor, Vector
from store.flat import Flat, Found
from store.hnsw import Graph
from store.labels import MATRIX, Labels

# Newcomers wait in the matrix beside a graph: scanning this part of PROMOTE_ROWS costs some 20 us a
# search, while moving them one by one would cost every admission a trip of the writer thread.
KEPT_SHARE = 16
BURIED_AT_ONCE = 16  # a search asks for as many more neighbours meanwhile


class Partition:
    """One vector set: newcomers in `flat`, and once it was large, most of it in `graphs`."""

    __slots__ = ("flat", "graphs", "labels", "table")

    def __init__(self, dimension: int, table: Labels) -> None:
        self.flat = Flat(dimension)
        self.graphs: tuple[Graph, ...] = ()
        self.labels: dict[EntryId, int] = {}
        self.table = table  # of all partitions

    def put(self, id: EntryId, vector: Vector) -> None:
        self.remove(id)
        label = self.table.give(id)
        self.flat.put(label, vector)
        self.labels[id] = label

    def remove(self, id: EntryId) -> bool:
        label = self.labels.pop(id, None)
        if label is None:
            return False
        home = self.table.drop(label)
        if home == MATRIX:
            self.flat.release(label)
            return True
        for graph in self.graphs:
            if graph.number == home:
                graph.live -= 1
                graph.dead.append(label)
        return True

    def graph_of(self, label: int) -> Graph | None:
        """Return the graph that holds a living label's vector; None if the matrix does."""
        home = self.table.home(label)
        if home == MATRIX:
            return None
        return next((graph for graph in self.graphs if graph.number == home), None)

    def name(self, found: Found, k: int) -> list[Neighbor]:
        """Turn labels into neighbors, leaving out whoever died since they were found."""
        cosines = dict(found)
        owners = {label: id for label in cosines if (id := self.table.owner(label)) is not None}
        nearest = heapq.nlargest(k, owners, key=cosines.__getitem__)
        return [Neighbor(owners[label], max(-1.0, min(1.0, cosines[label]))) for label in nearest]

    def into_graph(self, graph: Graph, labels: list[int]) -> None:
        """Note that the graph has taken vectors of the matrix."""
        for label in labels:
            if label in self.table:
                self.table.house(label, graph.number)
                self.flat.release(label)
                graph.live += 1
            else:
                graph.dead.append(label)  # removed on the way in

    def out_of_graph(self, graph: Graph, label: int, vector: Vector) -> None:
        """Take a vector of a graph back into the matrix, unless it was removed on the way."""
        if label in self.table:
            self.flat.put(label, vector)
            self.table.house(label, MATRIX)
            graph.live -= 1

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
