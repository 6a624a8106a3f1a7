"""The rules that what a cache holds must keep, checked from outside after every admission. Pure.

Said here again, and not asked of `store.eviction`, so that a fault there shows:

- never more than the capacity, in entries or in bytes;
- whoever loses an entry to another category held more than its quota;
- who is short of room and beyond the own quota takes nothing from others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from store.entry import Facts
from store.eviction import Share

RESOURCES = ("entries", "bytes")


@dataclass(frozen=True, slots=True)
class Holding:
    """What a category holds, or all do."""

    entries: int
    bytes: int

    def of(self, resource: str) -> int:
        """Return one of the two."""
        return self.entries if resource == "entries" else self.bytes


class Watch:
    """Compares what a cache says after an admission with what it said before it."""

    def __init__(self, shares: Mapping[str, Share], facts: Facts) -> None:
        self._quotas = {n: Holding(s.quota.entries, s.quota.bytes) for n, s in shares.items()}
        self.capacity = total(self._quotas)
        self.held = holdings(self._quotas, facts)
        self._evicted = sum(facts.evicted.values())
        self.admissions = 0
        self.evicting = 0  # admissions for which somebody had to go
        self.evictions = 0
        self.over_entries = -self.capacity.entries  # the most ever held, less the capacity
        self.over_bytes = -self.capacity.bytes
        self.broken: list[str] = []

    def admitted(self, category: str, size: int, facts: Facts) -> None:
        """Note the state right after an entry was stored that its category did not hold before."""
        before, now = self.held, holdings(self._quotas, facts)
        evicted = sum(facts.evicted.values())
        self.admissions += 1
        self.evictions += evicted - self._evicted
        self.evicting += evicted > self._evicted
        held = total(now)
        self.over_entries = max(self.over_entries, held.entries - self.capacity.entries)
        self.over_bytes = max(self.over_bytes, held.bytes - self.capacity.bytes)
        for resource in RESOURCES:
            if held.of(resource) > self.capacity.of(resource):
                self.broken.append(f"{held.of(resource)} {resource} held")
        self._check_losers(category, before, now)
        self._check_winner(category, size, before, now)
        self.held, self._evicted = now, evicted

    def beyond(self, resource: str) -> dict[str, int]:
        """Return how much each category holds beyond its quota, of those that do."""
        return {
            name: holding.of(resource) - self._quotas[name].of(resource)
            for name, holding in self.held.items()
            if holding.of(resource) > self._quotas[name].of(resource)
        }

    def has_room(self, category: str, size: int) -> bool:
        """Whether one more entry is within the category's own quota."""
        held, quota = self.held[category], self._quotas[category]
        return held.entries < quota.entries and held.bytes + size <= quota.bytes

    def _check_losers(
        self, category: str, before: Mapping[str, Holding], now: Mapping[str, Holding]
    ) -> None:
        for name in lost(category, before, now):
            if all(before[name].of(r) <= self._quotas[name].of(r) for r in RESOURCES):
                self.broken.append(f"{name} lost an entry to {category} within its quota")

    def _check_winner(
        self, category: str, size: int, before: Mapping[str, Holding], now: Mapping[str, Holding]
    ) -> None:
        if not lost(category, before, now):
            return
        held, quota = total(before), self._quotas[category]
        needs = Holding(1, size)
        short = [r for r in RESOURCES if held.of(r) + needs.of(r) > self.capacity.of(r)]
        if all(now[category].of(resource) > quota.of(resource) for resource in short):
            self.broken.append(f"{category} took room beyond its quota from others")


def lost(category: str, before: Mapping[str, Holding], now: Mapping[str, Holding]) -> list[str]:
    """Return who holds less than before, besides the category."""
    return [n for n in now if n != category and now[n].entries < before[n].entries]


def holdings(names: Mapping[str, object], facts: Facts) -> dict[str, Holding]:
    """Return what each category holds."""
    return {n: Holding(facts.entries.get(n, 0), facts.bytes.get(n, 0)) for n in names}


def total(holdings: Mapping[str, Holding]) -> Holding:
    """Return the sum."""
    held = holdings.values()
    return Holding(sum(h.entries for h in held), sum(h.bytes for h in held))
