"""Who holds how much, and who goes first when room is needed.

Every category has a quota of entries and of bytes; their sums bound the whole. Each of the two is
shared out by the same rule:

- While the whole has room, everybody may add, beyond the own quota too: idle room is lent.
- When it is full, a category beyond its quota makes room from its own.
- A category within its quota takes the room back from the one furthest beyond its own. How far is
  (held - quota) / quota / priority, of entries when entries are short, of bytes when bytes are.

Within a category the entry worth least goes first (`store.worth`). Priority is the same for all of
a category, so it only decides between categories: one of priority 2 keeps twice as much of what is
lent. What nobody may hold any more (a category that is gone, a quota of zero) goes before all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite

from store.entry import EntryId
from store.worth import Ranked, Ranking

OVERFULL_AT_ONCE = 256
ENTRIES, BYTES = 0, 1  # the two that are bounded, as places in a pair


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that may be held at any time."""

    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Share:
    """What a category may hold, and how dear it is."""

    quota: Quota
    priority: float = 1.0  # 0 or more; 1 is ordinary

    def __post_init__(self) -> None:
        if not (self.priority >= 0 and isfinite(self.priority)):
            raise ValueError(f"priority must be a number of 0 or more, got {self.priority}")

    @property
    def admits(self) -> bool:
        """Whether anything may be held at all."""
        return self.quota.entries > 0 and self.quota.bytes > 0

    def overshoot(self, resource: int, held: int) -> tuple[float, int]:
        """Return how far beyond its quota a holding is; larger is further, ties go by amount."""
        quota = pair(self.quota)[resource]
        excess = held - quota
        if excess <= 0:
            return (0.0, excess)
        weighed = quota * self.priority
        return (excess / weighed if weighed > 0 else inf, excess)


NOTHING = Share(Quota(0, 0))  # of a category that is gone


def pair(quota: Quota) -> tuple[int, int]:
    """Return the quota so that ENTRIES and BYTES index it."""
    return (quota.entries, quota.bytes)


class Draft:
    """What would be left if some entries went, while nothing has changed yet."""

    def __init__(self, rankings: Mapping[str, Ranking]) -> None:
        self._rankings = rankings
        self.left = {name: [r.entries, r.bytes] for name, r in rankings.items()}
        self.total = [
            sum(held[resource] for held in self.left.values()) for resource in (ENTRIES, BYTES)
        ]
        self.gone: dict[Ranked, None] = {}

    def let_go(self, ranked: Ranked) -> None:
        """Count the entry as gone."""
        self.gone[ranked] = None
        for held in (self.left[ranked.category], self.total):
            held[ENTRIES] -= 1
            held[BYTES] -= ranked.size

    def let_least_go(self, category: str) -> None:
        """Count the category's entry of least worth as gone."""
        self.let_go(self._rankings[category].least(self.gone))

    def close(self) -> list[EntryId]:
        """Return who would go, in that order."""
        for name in {ranked.category for ranked in self.gone}:
            self._rankings[name].restore()
        return [ranked.id for ranked in self.gone]


class Occupancy:
    """Who holds what, and who goes first. Keeps the books only: callers ask, then drop and add."""

    def __init__(self, shares: Mapping[str, Share]) -> None:
        self._ranked: dict[EntryId, Ranked] = {}
        self._rankings: dict[str, Ranking] = {}  # of every share, and of who still holds something
        self._shares: dict[str, Share] = {}
        self.capacity = Quota(0, 0)
        self.set_shares(shares)

    def __len__(self) -> int:
        return len(self._ranked)

    def __contains__(self, id: EntryId) -> bool:
        return id in self._ranked

    @property
    def total_bytes(self) -> int:
        """Bytes held by all; the length of this is the entries held by all."""
        return sum(ranking.bytes for ranking in self._rankings.values())

    @property
    def categories(self) -> list[str]:
        """Who has a share, or still holds something."""
        return list(self._rankings)

    def entries(self, category: str) -> int:
        """Return how many entries the category holds."""
        return self._rankings[category].entries if category in self._rankings else 0

    def bytes(self, category: str) -> int:
        """Return how many bytes the category holds."""
        return self._rankings[category].bytes if category in self._rankings else 0

    def set_shares(self, shares: Mapping[str, Share]) -> None:
        """Change the rules, for every question from now on; nobody leaves by this alone."""
        self._shares = dict(shares)
        quotas = [share.quota for share in shares.values()]
        self.capacity = Quota(sum(q.entries for q in quotas), sum(q.bytes for q in quotas))
        for name in shares:
            self._rankings.setdefault(name, Ranking(name))
        for name in self._rankings.keys() - shares.keys():
            self._forget_if_empty(name)

    def add(self, id: EntryId, category: str, size: int, cost: float) -> None:
        """Count an entry as stored, in place of any earlier one of its id.

        `size` is in bytes, `cost` in seconds of upstream time that a regeneration takes. Hits of an
        earlier one stay if the category does. Nothing is refused here: `victims` comes first.
        """
        earlier = self._ranked.get(id)
        before = None if earlier is None else self._rankings[earlier.category]
        self.drop(id)
        ranking = self._rankings.get(category)
        if ranking is None:
            ranking = self._rankings[category] = Ranking(category)
        going_on = earlier if ranking is before else None
        self._ranked[id] = ranking.add(id, size, cost, going_on)

    def touch(self, id: EntryId) -> None:
        """Count the entry as served; one that is not here is ignored."""
        ranked = self._ranked.get(id)
        if ranked is not None:
            self._rankings[ranked.category].touch(ranked)

    def drop(self, id: EntryId) -> None:
        """Forget the entry; one that is not here is ignored."""
        ranked = self._ranked.pop(id, None)
        if ranked is not None:
            self._rankings[ranked.category].drop(ranked)
            self._forget_if_empty(ranked.category)

    def admits(self, category: str, size: int) -> bool:
        """Whether an entry of `size` bytes may be held at all, whoever has to go for it."""
        share = self._shares.get(category)
        return share is not None and share.admits and size <= share.quota.bytes

    def hits(self, id: EntryId) -> float:
        """Return the entry's references as its worth counts them; 0 if it is not here."""
        ranked = self._ranked.get(id)
        return 0.0 if ranked is None else self._rankings[ranked.category].hits(ranked)

    def victims(
        self, category: str, size: int, replacing: EntryId | None = None
    ) -> list[EntryId] | None:
        """Return who must go so that one more entry of `size` bytes fits; None: it never may.

        It may not be admitted to an unknown category, to a quota of zero, or when it is larger than
        the whole quota. `replacing` goes anyway and is not among the victims. Right after quotas
        shrank more may be held than the capacity: then as much goes as comes, and `overfull` says
        who else.
        """
        if not self.admits(category, size):
            return None
        share = self._shares[category]
        draft = Draft(self._rankings)
        bounds = list(map(max, pair(self.capacity), draft.total))
        replaced = self._ranked.get(replacing) if replacing is not None else None
        if replaced is not None:
            draft.let_go(replaced)
        needs, quota = (1, size), pair(share.quota)
        for resource in (ENTRIES, BYTES):
            need = needs[resource]
            while draft.total[resource] + need > bounds[resource]:
                own = draft.left[category][resource] + need > quota[resource]
                draft.let_least_go(category if own else self._furthest(draft, resource))
        return [id for id in draft.close() if id != replacing]

    def overfull(self) -> list[EntryId]:
        """Return up to OVERFULL_AT_ONCE entries that a change of shares leaves no room for.

        Empty when all is within bounds; else drop them and ask again.
        """
        draft = Draft(self._rankings)
        while len(draft.gone) < OVERFULL_AT_ONCE:
            category = self._outstaying(draft)
            if category is None:
                break
            draft.let_least_go(category)
        return draft.close()

    def _share(self, category: str) -> Share:
        return self._shares.get(category, NOTHING)

    def _furthest(self, draft: Draft, resource: int) -> str:
        """Return the category furthest beyond its quota; there must be one."""

        def overshoot(category: str) -> tuple[float, int]:
            return self._share(category).overshoot(resource, draft.left[category][resource])

        return max(draft.left, key=overshoot)

    def _outstaying(self, draft: Draft) -> str | None:
        """Return the category that has to let go next, if any has."""
        for category, (entries, _) in draft.left.items():
            if entries and not self._share(category).admits:
                return category
        for resource in (ENTRIES, BYTES):
            if draft.total[resource] > pair(self.capacity)[resource]:
                return self._furthest(draft, resource)
        return None

    def _forget_if_empty(self, category: str) -> None:
        if category not in self._shares and not self._rankings[category].entries:
            del self._rankings[category]
