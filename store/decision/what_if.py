"""What another threshold would have made of lookups by meaning that really happened. Pure.

A lookup is remembered with the entries that were nearest, and with what kept each from a hit. Of
one that only its cosine kept away nobody asked the guards then: `examined` asks them when somebody
wants to know, `what_if` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from store.decision.features import Neighborhood, neighborhoods
from store.decision.guards import veto
from store.entry import EntryId

LEAST = 0.5  # cosine; what is further away is not remembered, so nothing lower can be asked about

# What keeps an entry from a hit; "" is nothing, and a guard's is GUARD with its name.
THRESHOLD = "threshold"  # nothing but its cosine was looked at
CLEARED = "cleared"  # as above, and no guard forbids it
GUARD = "guard "
SCORE = "score"
CONTEXT = "context"  # the earlier turns mean something else
SCOPE = "scope"  # mode, scope or quarantine: it may not be served to this call at all
EXPIRED = "expired"
AGE = "age"  # older than the caller would have it
_NO_EXAMPLE = (SCOPE, EXPIRED, AGE)  # no near-hit either

Limit = Callable[[str], float | None]  # a category's decision point now; None: it has no budget


class Scorer(Protocol):
    """What tells P(wrong): a calibrated score."""

    def wrong(
        self, query: str, candidates: Sequence[tuple[str, str, Neighborhood]], category: str
    ) -> list[float]:
        """Return P(wrong) of each (stored query, its category, place) that one search found."""
        ...


class Near(NamedTuple):
    """An entry that a lookup found."""

    id: EntryId
    query: str
    category: str
    similarity: float
    rank: int  # among all that the search found; 0 for the nearest
    floor: float  # the cosine that it needs besides: the caller's, or its own category's
    same_past: bool  # whether the users' earlier turns are equal, if there are any
    bar: str
    risk: float | None = None  # P(wrong), where it was or could be told

    @property
    def doubt(self) -> float:
        """The risk, or for want of one how far the cosine is from 1."""
        return max(0.0, 1.0 - self.similarity) if self.risk is None else self.risk


class PastLookup(NamedTuple):  # a tuple: one is made for every lookup by meaning
    """A lookup by meaning as it happened."""

    at: datetime
    id: EntryId  # under which its own answer was stored, if it was
    category: str
    tenant: str
    query: str
    checkpoint: str  # whose cosines these are
    follow_up: bool
    threshold: float  # the hit threshold in effect
    near_threshold: float
    similarities: tuple[float, ...]  # of all that say something about the neighbourhood
    near: tuple[Near, ...]  # nearest first, and whichever was served
    served: int = -1  # which of `near` answered; -1: none did

    @property
    def hit(self) -> bool:
        """Whether a stored answer was served."""
        return self.served >= 0


class Pair(NamedTuple):
    """A question and the stored one whose answer it would get, or would not get any more."""

    lookup: PastLookup
    near: Near


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What other thresholds would have made of some lookups."""

    hit_threshold: float
    near_threshold: float
    lookups: int
    hits_now: int  # as it happened
    hits_then: int
    near_now: int  # misses with something near enough to be an example
    near_then: int
    unknown: int  # near enough, but nobody has compared what their users said before
    gained: tuple[Pair, ...]  # the riskiest first, as in `lost`
    lost: tuple[Pair, ...]


def examined(
    lookup: PastLookup, score: Scorer | None, least: float, *, anew: bool = False
) -> PastLookup:
    """Return the lookup with guards and P(wrong) of what reaches `least` and has none yet.

    `anew`: another score may have told P(wrong) of what was not served; it is told by this one.
    """
    near = [
        each._replace(bar=_guarded(lookup.query, each.query))
        if each.bar == THRESHOLD and each.similarity >= least
        else each
        for each in lookup.near
    ]
    if anew:
        near = [each._replace(risk=None) if each.bar == CLEARED else each for each in near]
    asked = [n for n, each in enumerate(near) if each.bar in ("", CLEARED) and each.risk is None]
    if score is not None and asked:
        places = _places(lookup)
        found = [(near[n].query, near[n].category, _place(places, near[n])) for n in asked]
        risks = score.wrong(lookup.query, found, lookup.category)
        for n, risk in zip(asked, risks, strict=True):
            near[n] = near[n]._replace(risk=risk)
    unchanged = all(a is b for a, b in zip(near, lookup.near, strict=True))
    return lookup if unchanged else lookup._replace(near=tuple(near))


def _guarded(query: str, stored: str) -> str:
    guard = veto(query, stored)
    return CLEARED if guard is None else GUARD + guard


def _places(lookup: PastLookup) -> list[Neighborhood]:
    if lookup.follow_up:  # near a follow-up stand other dialogues, which say nothing
        return [Neighborhood(each) for each in lookup.similarities]
    return neighborhoods(lookup.similarities)


def _place(places: Sequence[Neighborhood], near: Near) -> Neighborhood:
    return places[near.rank] if near.rank < len(places) else Neighborhood(near.similarity)


def what_if(
    lookups: Iterable[PastLookup], *, hit_threshold: float, near_threshold: float, limit: Limit
) -> WhatIf:
    """Return what thresholds would have made of `lookups`, which were examined down to them.

    Whatever was decided then, but for the cosine, stands. What a lower threshold lets in has to
    pass the guards and, where its category or the question's has a budget, that one's decision
    point of now (`limit`).
    """
    count = hits_now = hits_then = near_now = near_then = unknown = 0
    gained, lost = [], []
    for lookup in lookups:
        count += 1
        hits_now += lookup.hit
        near_now += not lookup.hit and _is_near(lookup, lookup.near_threshold)
        reached = [
            each
            for each in lookup.near
            if each.similarity >= max(hit_threshold, each.floor) and _passes(lookup, each, limit)
        ]
        served = [each for each in reached if each.same_past or each.bar == ""]
        if served:
            hits_then += 1
            if not lookup.hit:
                best = min(served, key=lambda each: (not each.same_past, each.doubt))
                gained.append(Pair(lookup, best))
            continue
        near_then += _is_near(lookup, near_threshold)
        unknown += bool(reached)
        if lookup.hit:
            lost.append(Pair(lookup, lookup.near[lookup.served]))
    return WhatIf(
        hit_threshold=hit_threshold,
        near_threshold=near_threshold,
        lookups=count,
        hits_now=hits_now,
        hits_then=hits_then,
        near_now=near_now,
        near_then=near_then,
        unknown=unknown,
        gained=_riskiest(gained),
        lost=_riskiest(lost),
    )


def _passes(lookup: PastLookup, near: Near, limit: Limit) -> bool:
    """Whether nothing but its cosine, or what nobody has compared, keeps the entry from a hit."""
    if near.bar != CLEARED:
        return near.bar == ""
    for category in {lookup.category, near.category}:
        point = limit(category)
        if point is not None and (near.risk is None or point <= 0.0 or near.risk > point):
            return False
    return True


def _is_near(lookup: PastLookup, near_threshold: float) -> bool:
    return any(
        each.similarity >= near_threshold and each.bar not in _NO_EXAMPLE for each in lookup.near
    )


def _riskiest(pairs: list[Pair]) -> tuple[Pair, ...]:
    """Return those with a P(wrong) by that, the highest first, then the others by their cosine."""
    return tuple(
        sorted(pairs, key=lambda p: (p.near.risk is None, -(p.near.risk or 0.0), p.near.similarity))
    )
