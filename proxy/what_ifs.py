"""Asks what another threshold would have made of a category's last lookups, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from proxy.recent_lookups import RecentLookups
from proxy.rules import InForce
from store.decision.what_if import PastLookup, Scorer, WhatIf, examined, what_if

_AT_ONCE = 50  # lookups: guards and the score of so many take some 20 ms of another thread


class WhatIfs:
    """Answers for one process: what it has looked up itself."""

    def __init__(
        self,
        *,
        recent: RecentLookups,
        in_force: InForce,
        point: Callable[[str, float], float],
    ) -> None:
        """`point` returns the largest P(wrong) that is served now for (category, error budget)."""
        self._recent = recent
        self._in_force = in_force
        self._point = point
        self._turn = asyncio.Lock()  # who asks meanwhile finds the work done
        self._scores: dict[str, Scorer | None] = {}  # by category, that told what is known of it

    async def of(
        self, category: str, hit_threshold: float, near_threshold: float | None = None
    ) -> WhatIf:
        """Return what these thresholds would have made of the category's last lookups.

        `near_threshold` None: the category's own, or the hit threshold where that is lower.
        """
        rules = self._in_force.rules
        if near_threshold is None:
            near_threshold = min(rules.book[category].near_threshold, hit_threshold)
        checkpoint = rules.encoding.checkpoint
        async with self._turn:
            rows = {
                number: row
                for number, row in self._recent.of(category).items()
                if row.checkpoint == checkpoint  # another encoder's cosines say nothing here
            }
            score = rules.encoding.score.now
            numbers = list(rows)
            anew = score is not self._scores.get(category)  # as after `nearhit calibrate`
            for start in range(0, len(numbers), _AT_ONCE):
                part = [rows[number] for number in numbers[start : start + _AT_ONCE]]
                seen = await asyncio.to_thread(_examined, part, score, hit_threshold, anew)
                rows |= zip(numbers[start : start + _AT_ONCE], seen, strict=True)
            self._recent.put_back(rows)
            self._scores[category] = score
        return what_if(
            rows.values(),
            hit_threshold=hit_threshold,
            near_threshold=near_threshold,
            limit=self._limit,
        )

    def _limit(self, category: str) -> float | None:
        book = self._in_force.rules.book
        budget = book[category].error_budget if category in book else None
        return None if budget is None else self._point(category, budget)


def _examined(
    lookups: Sequence[PastLookup], score: Scorer | None, least: float, anew: bool
) -> list[PastLookup]:
    return [examined(lookup, score, least, anew=anew) for lookup in lookups]
