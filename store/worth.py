"""What an entry is worth to its category, and who of a category is worth least.

    worth = hits * cost / size

`cost` is the upstream time in seconds that a regeneration takes, `size` the bytes held. `hits`
counts references, being stored as the first; each counts half as much after H later references of
the category, H being the number of entries that the category holds at that time. So age is measured
in traffic, not in hours: a quiet night costs nobody their place.

All hits of a category halve at the same time, so the order of two entries changes only when one of
them is referenced. An entry's rank, log2(worth) plus the category's clock (one halving is 1.0),
stays as it is until then; a reference at clock c makes it log2(2**rank + 2**c * cost / size).

Entries stand on shelves by rank, a shelf for 1.1 % of worth; the lowest leaves first, and on a
shelf whoever came to it first. A reference only raises the rank. Who stands too low for that is
moved up by whoever searches for the least, so a reference costs next to nothing, and memory
depends on what is held alone.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container
from math import exp2, floor, inf, log2

from msgspec import Struct

from store.entry import EntryId

SHELVES = 64  # a halving
LEAST_COST, MOST_COST = 1e-3, 3600.0  # seconds; what is beyond counts as the bound
MOVED_AT_ONCE = 64  # entries that one search for the least may move up
LONGEST_CLOCK = 2**20  # halvings after which it starts from zero again, to keep its precision


class Ranked(Struct, eq=False, gc=False):
    """One entry in its category's order."""

    id: EntryId
    category: str
    size: int
    cost: float  # seconds; the caller's object, so it takes no memory of its own
    rank: float = -inf
    shelf: int = 0

    @property
    def weight(self) -> float:
        """What a reference is worth, in halvings."""
        return log2(min(max(LEAST_COST, self.cost), MOST_COST) / max(self.size, 1))  # NaN: least


class Ranking:
    """The entries of one category by worth."""

    def __init__(self, category: str) -> None:
        self.category = category
        self.entries = 0
        self.bytes = 0
        self.clock = 0.0  # halvings that this category's hits have seen
        self._step = 1.0  # what a reference adds
        self._shelves: dict[int, dict[EntryId, Ranked]] = {}  # none of them empty
        self._numbers: list[int] = []  # of the shelves, ascending
        self._aside: list[Ranked] = []

    @property
    def shelves(self) -> int:
        """How many shelves there are; at most one an entry."""
        return len(self._numbers)

    def add(self, id: EntryId, size: int, cost: float, earlier: Ranked | None = None) -> Ranked:
        """Count a new entry as referenced; it goes on from the hits of one that it replaces.

        `earlier` was dropped from this ranking just before.
        """
        if self.clock > LONGEST_CLOCK:
            self._start_clock_anew()
        ranked = Ranked(id, self.category, size, cost)
        if earlier is not None:
            ranked.rank = earlier.rank - earlier.weight + ranked.weight
        self._count(1, size)
        self.touch(ranked)
        self._put_up(ranked, shelf_of(ranked))
        return ranked

    def hits(self, ranked: Ranked) -> float:
        """Return an entry's references that count now: 1.0 is having been stored, not yet old."""
        return exp2(ranked.rank - ranked.weight - self.clock)

    def touch(self, ranked: Ranked) -> None:
        """Count a reference of an entry of this ranking."""
        self.clock = now = self.clock + self._step
        fresh = now + ranked.weight
        ranked.rank = fresh + log2(1.0 + exp2(ranked.rank - fresh))

    def drop(self, ranked: Ranked) -> None:
        """Let go of an entry of this ranking."""
        self._take_down(ranked)
        self._count(-1, -ranked.size)

    def least(self, besides: Container[Ranked] = ()) -> Ranked:
        """Return who is worth least of those not in `besides`; there must be one.

        Those are put aside: end with `restore`. When more than MOVED_AT_ONCE stand too low, it is
        the least of the lowest that many, so that the time is bounded.
        """
        moved = list[Ranked]()
        while len(moved) < MOVED_AT_ONCE:
            ranked = next(iter(self._shelves[self._numbers[0]].values()))
            if ranked in besides:
                self._take_down(ranked)
                self._aside.append(ranked)
            elif shelf_of(ranked) <= ranked.shelf:
                return ranked
            else:
                self._take_down(ranked)
                self._put_up(ranked, shelf_of(ranked))
                moved.append(ranked)
        return min(moved, key=lambda ranked: ranked.rank)

    def restore(self) -> None:
        """Take back those whom `least` put aside, each to the place that it had."""
        shelves: dict[int, dict[EntryId, Ranked]] = {}
        for ranked in self._aside:
            shelves.setdefault(ranked.shelf, {})[ranked.id] = ranked
        self._aside.clear()
        for number, shelf in shelves.items():
            if number in self._shelves:
                shelf.update(self._shelves[number])
            else:
                insort(self._numbers, number)
            self._shelves[number] = shelf

    def _count(self, entries: int, size: int) -> None:
        self.entries += entries
        self.bytes += size
        self._step = 1.0 / max(1, self.entries)

    def _put_up(self, ranked: Ranked, number: int) -> None:
        shelf = self._shelves.get(number)
        if shelf is None:
            shelf = self._shelves[number] = {}
            insort(self._numbers, number)
        else:  # one number object a shelf, not one an entry
            number = next(iter(shelf.values())).shelf
        ranked.shelf = number
        shelf[ranked.id] = ranked

    def _take_down(self, ranked: Ranked) -> None:
        shelf = self._shelves[ranked.shelf]
        del shelf[ranked.id]
        if not shelf:
            del self._shelves[ranked.shelf]
            del self._numbers[bisect_left(self._numbers, ranked.shelf)]

    def _start_clock_anew(self) -> None:
        """Take whole halvings off the clock and everybody's rank: the order stays."""
        past = floor(self.clock)
        self.clock -= past
        for shelf in self._shelves.values():
            for ranked in shelf.values():
                ranked.rank -= past
                ranked.shelf -= past * SHELVES
        self._shelves = {n - past * SHELVES: shelf for n, shelf in self._shelves.items()}
        self._numbers = [number - past * SHELVES for number in self._numbers]


def shelf_of(ranked: Ranked) -> int:
    """Return the number of the shelf on which the entry belongs."""
    return floor(ranked.rank * SHELVES)
