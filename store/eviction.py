"""Which entry goes first when room is needed: the one whose last use is longest ago."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from store.entry import EntryId


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that may be held at any time."""

    entries: int
    bytes: int


class Recency:
    """Sizes in order of last use; every call but `victims` takes constant time."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[EntryId, int] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, id: EntryId, size: int) -> None:
        """Count the id as just used, in place of any earlier size of it."""
        self.drop(id)
        self._sizes[id] = size
        self.bytes += size

    def drop(self, id: EntryId) -> None:
        """Forget the id; one that is not here is ignored."""
        self.bytes -= self._sizes.pop(id, 0)

    def touch(self, id: EntryId) -> None:
        """Count the id as just used; one that is not here is ignored."""
        if id in self._sizes:
            self._sizes.move_to_end(id)

    def victims(self, quota: Quota, size: int) -> list[EntryId]:
        """Return who must go so that one more entry of `size` bytes fits the quota."""
        entries, held = len(self), self.bytes
        chosen = []
        for id, freed in self._sizes.items():
            if entries < quota.entries and held + size <= quota.bytes:
                break
            chosen.append(id)
            entries, held = entries - 1, held - freed
        return chosen
