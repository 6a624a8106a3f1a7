"""The rules that what a cache holds must keep, checked from outside after every admission. Pure.

Said here again, and not asked of `store.eviction`, so that a fault there shows:

- no more than the capacity is held, in entries and in bytes (`over`);
- whoever loses an entry to another category held more than its quota (`broken`);
- who is short of room and beyond the own quota takes nothing from others (`broken`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from store.entry import Facts
from store.eviction import Share

RESOURCES = ENTRIES, BYTES = 0, 1  # places in a pair

Pair = tuple[int, int]  # plain, for this runs on the event loop whose lag is measured


class Watch:
    """Compares what a cache says after an admission with what it said before it."""

    def __init__(self, shares: Mapping[str, Share], facts: Facts) -> None:
        self._quotas = {n: (s.quota.entries, s.quota.bytes) for n, s in shares.items()}
        self.capacity = total(self._quotas.values())
        self.held = self._holdings(facts)
        self._sum = total(self.held.values())
        self._evicted = sum(facts.evicted.values())
        self.admissions = 0
        self.evicting = 0  # admissions for which somebody had to go
        self.evictions = 0
        self.over = [-self.capacity[ENTRIES], -self.capacity[BYTES]]  # the most, by resource
        self.broken: list[str] = []

    def admitted(self, category: str, size: int, facts: Facts) -> None:
        """Note the state right after an entry was stored that was not held before."""
        before, now = self.held, self._holdings(facts)
        held, evicted = total(now.values()), sum(facts.evicted.values())
        self.admissions += 1
        self.evictions += evicted - self._evicted
        self.evicting += evicted > self._evicted
        for resource in RESOURCES:
            over = held[resource] - self.capacity[resource]
            self.over[resource] = max(self.over[resource], over)
        losers = [n for n in now if n != category and now[n][ENTRIES] < before[n][ENTRIES]]
        if losers:
            self._check_losers(category, losers)
            self._check_winner(category, size, now[category])
        self.held, self._sum, self._evicted = now, held, evicted

    def beyond(self, resource: int) -> dict[str, int]:
        """Return how much each category holds beyond its quota, of those that do."""
        return {
            name: pair[resource] - self._quotas[name][resource]
            for name, pair in self.held.items()
            if pair[resource] > self._quotas[name][resource]
        }

    def has_room(self, category: str, size: int) -> bool:
        """Whether one more entry is within the category's own quota."""
        held, quota = self.held[category], self._quotas[category]
        return held[ENTRIES] < quota[ENTRIES] and held[BYTES] + size <= quota[BYTES]

    def _holdings(self, facts: Facts) -> dict[str, Pair]:
        entries, bytes = facts.entries.get, facts.bytes.get
        return {name: (entries(name, 0), bytes(name, 0)) for name in self._quotas}

    def _check_losers(self, category: str, losers: list[str]) -> None:
        for name in losers:
            held, quota = self.held[name], self._quotas[name]
            if held[ENTRIES] <= quota[ENTRIES] and held[BYTES] <= quota[BYTES]:
                self.broken.append(f"{name} lost an entry to {category} within its quota")

    def _check_winner(self, category: str, size: int, now: Pair) -> None:
        needs, quota = (1, size), self._quotas[category]
        short = [r for r in RESOURCES if self._sum[r] + needs[r] > self.capacity[r]]
        if all(now[resource] > quota[resource] for resource in short):
            self.broken.append(f"{category} took room beyond its quota from others")


def total(pairs: Iterable[Pair]) -> Pair:
    """Return the sum of entries and the sum of bytes."""
    entries, bytes = zip(*pairs, strict=True)
    return sum(entries), sum(bytes)
