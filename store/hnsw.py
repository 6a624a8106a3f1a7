"""One hnswlib graph: approximate search in a large set of fixed capacity.

hnswlib must not search and change a graph at the same time, so both pass a turnstile, and a
change is one vector long. A graph never grows: hnswlib's resize and save/load keep the
interpreter lock while they copy. The index adds another, larger graph instead.

Nor is a slot used twice. Taking one over makes hnswlib mend everything around it, six times the
work of an addition (docs/LOG.md), and searches wait meanwhile. So the dead stay, searches walk
past them, and the index moves the living out before they are too few.
"""

from __future__ import annotations

from collections.abc import Sequence

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

    def __init__(self, dimension: int, capacity: int) -> None:
        self.capacity = capacity
        self.live: set[int] = set()
        self.dead: list[int] = []  # removed from the index, not yet marked in the graph
        self.taken = 0  # slots in use: live, dead and on their way in
        self.closed = False  # takes no more vectors; dropped once nothing lives in it
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
        return self.taken - len(self.live) > max(len(self.live), self.capacity // FEW_DEAD)

    def add(self, labels: Sequence[int], vectors: npt.NDArray[np.float32]) -> None:
        """Add unit vectors, shape (n, d), one turn each."""
        for label, vector in zip(labels, vectors, strict=True):
            with self._turnstile.writing():
                self._index.add_items(vector, label, num_threads=1)
                self._present += 1

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
