"""Which vector a label stands for, whose it is, and where it lies.

A label is a slot of one table together with how often the slot was given out. So no label is ever
used twice, and the table is as long as the most vectors that ever lived at once.
"""

from __future__ import annotations

from array import array

import numpy as np

from store.entry import EntryId

SLOT_BITS = 32
SLOT_MASK = 2**SLOT_BITS - 1
AGAIN = 2**SLOT_BITS  # what a label grows by when its slot is given out again
MATRIX = 0  # the home of a vector that no graph holds; graphs are numbered from 1
SCANNED_AT_ONCE = 2**16


class Labels:
    """The labels of one index. Belongs to the event loop, but for `owner`."""

    __slots__ = ("_free", "graphs", "homes", "last", "owners")

    def __init__(self) -> None:
        self.owners: list[EntryId | None] = []  # by slot; None: free
        self.last = array("q")  # the label that each slot was given out as last
        self.homes = array("i")  # the number of a graph, or MATRIX
        self._free: list[int] = []
        self.graphs = 0  # the highest number given to one

    def __contains__(self, label: int) -> bool:
        return self.owner(label) is not None

    def give(self, id: EntryId) -> int:
        """Return a label for a vector of the id, which lies in a matrix."""
        if self._free:
            slot = self._free.pop()
            label: int = self.last[slot] + AGAIN
            self.last[slot] = label
            self.owners[slot] = id
            return label
        slot = len(self.owners)
        self.last.append(slot)
        self.homes.append(MATRIX)
        self.owners.append(id)
        return slot

    def drop(self, label: int) -> int:
        """Let a living label die; return its home."""
        slot = label & SLOT_MASK
        home: int = self.homes[slot]
        self.owners[slot] = None
        self.homes[slot] = MATRIX
        self._free.append(slot)
        return home

    def owner(self, label: int) -> EntryId | None:
        """Return whose vector it is; None when it has died."""
        slot = label & SLOT_MASK
        return self.owners[slot] if self.last[slot] == label else None

    def house(self, label: int, home: int) -> None:
        """Note where a living label's vector lies now."""
        self.homes[label & SLOT_MASK] = home

    def home(self, label: int) -> int:
        """Return where a living label's vector lies."""
        home: int = self.homes[label & SLOT_MASK]
        return home

    def next_graph(self) -> int:
        """Return a number for another graph."""
        self.graphs += 1
        return self.graphs

    def some_in(self, graph: int, limit: int, start: int = 0) -> tuple[list[int], int]:
        """Return up to `limit` living labels of a graph from slot `start` on.

        The second is where to go on: nothing of the graph lies between the two.
        """
        homes = np.frombuffer(self.homes, np.int32)
        while start < len(homes):
            slots = start + np.flatnonzero(homes[start : start + SCANNED_AT_ONCE] == graph)
            if len(slots):
                return [self.last[slot] for slot in slots[:limit]], int(slots[0])
            start += SCANNED_AT_ONCE
        return [], 0

    def restore(
        self, owners: list[EntryId | None], last: array[int], homes: array[int], graphs: int
    ) -> None:
        """Become what a table was when these were its columns and `graphs` its highest number."""
        self.owners, self.last, self.homes, self.graphs = owners, last, homes, graphs
        self._free = [slot for slot, owner in enumerate(owners) if owner is None]
