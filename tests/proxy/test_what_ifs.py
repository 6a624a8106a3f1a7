"""What another threshold would have done, as the process that looked up is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.recent_lookups import RecentLookups
from proxy.rules import InForce
from proxy.what_ifs import WhatIfs
from store.decision.what_if import THRESHOLD, Near, PastLookup
from store.entry import EntryId
from store.policy import Policy, PolicyBook
from tests.encodings import rules_of
from tests.entries import NOON


class Score:
    """Says the same of everything."""

    def __init__(self, risk: float) -> None:
        self._risk = risk

    def wrong(self, query: str, candidates: Sequence[Any], category: str) -> list[float]:
        return [self._risk for _ in candidates]


async def test_after_a_calibration_the_score_in_force_tells_how_risky_a_hit_had_been() -> None:
    rules = rules_of(PolicyBook({"default": Policy(name="default", error_budget=0.1)}))
    stored, asked = "How do I oil a hinge?", "How can I oil a hinge?"
    near = Near(EntryId("a"), stored, "default", 0.8, 0, -1.0, True, THRESHOLD)
    recent = RecentLookups(100)
    checkpoint = rules.encoding.checkpoint
    recent._add(
        PastLookup(
            NOON,
            EntryId("b"),
            "default",
            "pier",
            asked,
            checkpoint,
            False,
            0.9,
            0.6,
            (0.8,),
            (near,),
        )
    )
    what_ifs = WhatIfs(recent=recent, in_force=InForce(rules), point=lambda *_: 0.3)
    hits = []
    for risk in (0.5, 0.2, 0.2, 0.5):
        rules.encoding.score.now = Score(risk)  # type: ignore[assignment]
        hits.append((await what_ifs.of("default", 0.7)).hits_then)
    assert hits == [0, 1, 1, 0]
