"""One hnswlib graph: approximate search in a large set of fixed capacity.

hnswlib must not search and change a graph at the same time, so both pass a turnstile, and a
change is one vector long. A graph never grows while it is searched: hnswlib's resize and save/load
keep the interpreter lock while they copy. The index adds another, larger graph instead; only in a
hurry, when nobody searches, a graph grows and takes many vectors in one turn, with many threads.

Nor is a slot used twice. Taking one over makes hnswlib mend everything around it, six times the
work of an addition (docs/LOG.md), and searches wait meanwhile. So the dead stay, searches walk
past them, and the index moves the living out before they are too few.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import hnswlib
import numpy as np
import numpy.typing as npt

from store.entry import Vector
from store.flat import Found
from store.turnstile import Turnstile

LINKS = 16  # hnswlib's M
BUILD_BREADTH = 100  # ef_construction
SEARCH_BREADTH = 64  # ef: finds the nearest 996 times in 1000 among 100,000 (docs/LOG.md)
BURIED_PER_TURN = 64  # a deletion takes a microsecond, an addition about half a millisecond
FEW_DEAD = 8  # a search does not mind so few: this part of the capacity
MOST_SPARES = 32  # neighbours asked for beyond k, in place of dead ones not yet buried


class Graph:
    """A graph with the event loop's books about it.

    The public attributes belong to the event loop; `add`, `bury` and `fetch` run in the one
    writer thread; `nearest` runs in any search thread.
    """

    def __init__(self, dimension: int, capacity: int, number: int = 1) -> None:
        self.capacity = capacity
        self.number = number  # by which the table of labels knows it
        self.live = 0  # how many
        self.dead: list[int] = []  # removed from the index, not yet marked in the graph
        self.taken = 0  # slots in use: live, dead and on their way in
        self.closed = False  # takes no more vectors; dropped once nothing lives in it
        self.leaving = 0  # a slot of the table of labels: none of lower ones lives here
        self._present = 0  # vectors that hnswlib can return
        self._turnstile = Turnstile()
        self._index = hnswlib.Index(space="ip", dim=dimension)
        self._index.init_index(capacity, M=LINKS, ef_construction=BUILD_BREADTH)
        self._index.set_ef(SEARCH_BREADTH)

    @property
    def room(self) -> int:
        """How many vectors still fit."""
        return self.capacity - self.taken

    @property
    def sparse(self) -> bool:
        """Whether so few live among the dead that a search wastes its time here."""
        return self.taken - self.live > max(self.live, self.capacity // FEW_DEAD)

    def add(self, labels: Sequence[int], vectors: npt.NDArray[np.float32]) -> None:
        """Add unit vectors, shape (n, d), one turn each, and rest after each as long as it took.

        Whoever searches meanwhile then waits for one addition, and not for a core that a batch of
        them keeps busy.
        """
        for label, vector in zip(labels, vectors, strict=True):
            started = time.perf_counter()
            with self._turnstile.writing():
                self._index.add_items(vector, label, num_threads=1)
                self._present += 1
            time.sleep(time.perf_counter() - started)

    def add_many(
        self, labels: Sequence[int], vectors: npt.NDArray[np.float32], threads: int
    ) -> None:
        """Add unit vectors, shape (n, d), in one turn: whoever searches waits for all of them."""
        with self._turnstile.writing():
            self._index.add_items(vectors, labels, num_threads=threads)
            self._present += len(labels)

    def grow(self, capacity: int) -> None:
        """Make room for as many; whoever needs the interpreter waits for it."""
        with self._turnstile.writing():
            self._index.resize_index(capacity)
        self.capacity = capacity

    def bury(self, labels: Sequence[int]) -> None:
        """Mark as deleted; each label must be in the graph and not yet buried."""
        for start in range(0, len(labels), BURIED_PER_TURN):
            with self._turnstile.writing():
                for label in labels[start : start + BURIED_PER_TURN]:
                    self._index.mark_deleted(label)
                    self._present -= 1

    def fetch(self, labels: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the vectors of live labels, shape (n, d)."""
        return np.asarray(self._index.get_items(labels), np.float32)

    def nearest(self, vector: Vector, k: int) -> Found:
        """Return up to k labels, nearest first; some may have been removed by now."""
        k += min(len(self.dead), MOST_SPARES)
        with self._turnstile.reading():
            k = min(k, self._present)
            while k:
                try:
                    labels, distances = self._index.knn_query(vector, k, num_threads=1)
                except RuntimeError:  # fewer than k are reachable
                    k //= 2
                else:
                    return list(zip(labels[0].tolist(), (1 - distances[0]).tolist(), strict=True))
        return []

    def save(self, path: Path) -> None:
        """Write hnswlib's own file; the interpreter waits for it. Raises OSError.

        No writer may be at work. hnswlib does not notice a full disk, so we do.
        """
        self._index.save_index(str(path))
        if path.stat().st_size != self._index.index_file_size():
            raise OSError(f"{path} was not written in full")

    @classmethod
    def load(
        cls,
        path: Path,
        dimension: int,
        capacity: int,
        number: int,
        living: npt.NDArray[np.int64],
        *,
        closed: bool,
    ) -> Graph:
        """Return the graph of a file, in which these labels live and all others are buried.

        Raises RuntimeError when it cannot be read, ValueError when one of them is not in it.
        """
        graph = cls(dimension, 1, number)
        graph._index = hnswlib.Index(space="ip", dim=dimension)
        graph._index.load_index(str(path), max_elements=capacity)
        graph._index.set_ef(SEARCH_BREADTH)
        graph.capacity, graph.closed = capacity, closed
        graph.live = graph._present = len(living)
        held = np.asarray(graph._index.get_ids_list(), np.int64)
        graph.taken = len(held)
        if not np.isin(living, held, assume_unique=True).all():
            raise ValueError(f"{path} lacks vectors that should live in it")
        for label in np.setdiff1d(held, living, assume_unique=True).tolist():
            try:
                graph._index.mark_deleted(label)
            except RuntimeError:  # it was buried before the graph was saved
                continue
        return graph
