"""What this process holds of entries, in everything that answers from them at once.

Books only: nothing here waits, and nothing here is durable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from store.entry import EntryId, Held, Stored, Version
from store.eviction import Occupancy, Share
from store.hot import HotDocuments
from store.vectors import EntryVectors


class Memory:
    """Held entries with their vectors, documents, quotas and twins, kept in step."""

    def __init__(
        self,
        vectors: EntryVectors,
        shares: Mapping[str, Share],
        hot_bytes: int,
        owe: Callable[[Version], None],
    ) -> None:
        """`owe` is told of rows that memory has let go of by itself."""
        self.vectors = vectors
        self.held: dict[EntryId, Held] = {}  # in the order of their puts
        self.occupancy = Occupancy(shares)
        self.hot = HotDocuments(hot_bytes)  # of held entries only, each in its held version
        self.twins: dict[str, dict[EntryId, None]] = {}  # by shared key
        self.entries: Counter[str] = Counter()  # by category; here and below
        self.evicted: Counter[str] = Counter()
        self._owe = owe

    def take_up(self, stored: Stored, *, own: bool) -> None:
        """Hold an entry; whoever made it chooses who makes room for it, or each would choose."""
        held = stored.held
        if own:
            self.make_room(held)
        self.let_go(held.id, replaced=True)
        self.keep(held)
        self.vectors.take_up(stored)

    def make_room(self, held: Held) -> None:
        """Let go of whoever has to go for this entry."""
        for id in self.occupancy.victims(held.category, held.size, held.id) or ():
            self.evict(id)

    def keep(self, held: Held) -> None:
        """Hold an entry in everything but its vectors."""
        self.held[held.id] = held
        self.entries[held.category] += 1
        self.occupancy.add(held.id, held.category, held.size, held.cost)
        if held.shared_key:
            self.twins.setdefault(held.shared_key, {})[held.id] = None

    def let_go(self, id: EntryId, *, replaced: bool = False) -> Held | None:
        """Take the entry out of everything in memory; one that is replaced keeps its hits."""
        held = self.held.pop(id, None)
        if held is not None:
            self.entries[held.category] -= 1
            if not replaced:
                self.occupancy.drop(id)
            self._part_from_twins(held)
            self.hot.drop(id)
            self.vectors.remove(held)
        return held

    def let_all_go(self, ids: Iterable[EntryId]) -> None:
        """Let go of several entries."""
        for id in ids:
            self.let_go(id)

    def _part_from_twins(self, held: Held) -> None:
        if held.shared_key:
            twins = self.twins[held.shared_key]
            twins.pop(held.id, None)
            if not twins:
                del self.twins[held.shared_key]

    def evict(self, id: EntryId) -> None:
        """Let go of an entry for want of room."""
        victim = self.held[id]
        self.discard(victim)
        self.evicted[victim.category] += 1

    def discard(self, held: Held) -> None:
        """Let go of an entry, and have its row deleted."""
        self.let_go(held.id)
        self._owe(held.version)
