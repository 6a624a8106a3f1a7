"""What a what-if shows: counts, where the gained lie, and the riskiest pairs side by side. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from proxy.dashboard.differing import Run, differing
from store.decision.what_if import Pair, WhatIf

PAIRS = 10  # of those that are gained, and of those that are lost
_STEPS = 10  # bars, at the most


class Bar(NamedTuple):
    """How many hits would be gained at these cosines."""

    low: float
    high: float
    gained: int


class SideBySide(NamedTuple):
    """A question and the stored one."""

    at: datetime
    tenant: str
    asked: list[Run]
    stored: list[Run]
    entry_id: str
    similarity: float
    risk: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that the template shows."""

    told: WhatIf
    rate_now: float | None
    rate_then: float | None
    bars: tuple[Bar, ...]
    most: int  # of one bar
    gained: tuple[SideBySide, ...]
    lost: tuple[SideBySide, ...]


def view_of(told: WhatIf) -> View:
    """Return what is shown of a what-if."""
    bars = bars_of([pair.near.similarity for pair in told.gained])
    return View(
        told=told,
        rate_now=told.hits_now / told.lookups if told.lookups else None,
        rate_then=told.hits_then / told.lookups if told.lookups else None,
        bars=bars,
        most=max((bar.gained for bar in bars), default=1),
        gained=tuple(_side_by_side(pair) for pair in told.gained[:PAIRS]),
        lost=tuple(_side_by_side(pair) for pair in told.lost[:PAIRS]),
    )


def bars_of(similarities: list[float]) -> tuple[Bar, ...]:
    """Return counts by steps of 0.01, 0.02 or 0.05, as many as hold them all, nearest last."""
    if not similarities:
        return ()
    low, high = min(similarities), max(similarities)
    for step in (0.01, 0.02, 0.05, 0.2):
        first, last = (math.floor(each / step + 1e-9) for each in (low, high))
        if last - first < _STEPS:
            break
    counts = dict.fromkeys(range(first, last + 1), 0)
    for each in similarities:
        counts[math.floor(each / step + 1e-9)] += 1
    return tuple(Bar(n * step, (n + 1) * step, count) for n, count in counts.items())


def _side_by_side(pair: Pair) -> SideBySide:
    lookup, near = pair
    asked, stored = differing(lookup.query, near.query)
    return SideBySide(lookup.at, lookup.tenant, asked, stored, near.id, near.similarity, near.risk)
