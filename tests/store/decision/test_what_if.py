"""What another threshold would have made of lookups that happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from store.decision.features import NEIGHBORS, Neighborhood
from store.decision.what_if import (
    AGE,
    CLEARED,
    CONTEXT,
    EXPIRED,
    LEAST,
    SCOPE,
    SCORE,
    THRESHOLD,
    Near,
    PastLookup,
    WhatIf,
    examined,
    what_if,
)
from store.entry import EntryId
from tests.entries import NOON

ASKED = "How can I oil a hinge?"
STORED = "How do I oil a hinge?"
TWICE = "How do I oil 2 hinges?"
COSINES = st.integers(50, 100).map(lambda n: n / 100)
BARS = (THRESHOLD, CLEARED, "guard numbers", SCORE, CONTEXT, SCOPE, EXPIRED, AGE)


class FixedScore:
    """Says the same of everything, and notes what it was shown."""

    def __init__(self, risk: float) -> None:
        self.risk = risk
        self.shown: list[Neighborhood] = []

    def wrong(
        self, query: str, candidates: Sequence[tuple[str, str, Neighborhood]], category: str
    ) -> list[float]:
        self.shown += [place for *_, place in candidates]
        return [self.risk for _ in candidates]


def no_budget(category: str) -> None:
    return None


def found(similarity: float, bar: str = THRESHOLD, query: str = STORED, **more: Any) -> Near:
    near = Near(EntryId(query), query, "default", similarity, 0, -1.0, True, bar)
    return near._replace(**more)


def lookup(*near: Near, served: int = -1, threshold: float = 0.9) -> PastLookup:
    return PastLookup(
        at=NOON,
        id=EntryId("own"),
        category="default",
        tenant="harbour",
        query=ASKED,
        checkpoint="c",
        follow_up=False,
        threshold=threshold,
        near_threshold=0.6,
        similarities=tuple(each.similarity for each in near),
        near=near,
        served=served,
    )


def asked(*lookups: PastLookup, at: float, near_at: float = 0.5) -> WhatIf:
    return what_if(lookups, hit_threshold=at, near_threshold=near_at, limit=no_budget)


@st.composite
def past_lookups(draw: st.DrawFn) -> PastLookup:
    """A lookup as a search under some threshold could have left it, examined or not."""
    threshold = draw(COSINES)
    near: list[Near] = []
    for rank in range(draw(st.integers(0, 3))):
        similarity, floor = draw(COSINES), draw(st.just(-1.0) | COSINES)
        if similarity >= max(threshold, floor):
            bar = draw(st.sampled_from(("", *BARS[2:])))
        else:
            bar = draw(st.sampled_from(BARS))
        risk = draw(st.none() | st.floats(0, 1))
        same = True if bar == "" else draw(st.booleans())
        near.append(
            Near(EntryId(str(rank)), STORED, "default", similarity, rank, floor, same, bar, risk)
        )
    passed = [n for n, each in enumerate(near) if each.bar == ""]
    served = draw(st.sampled_from(passed)) if passed else -1
    return lookup(*near, served=served, threshold=threshold)


LOOKUPS = st.lists(past_lookups(), max_size=4)
LIMITS = st.none() | st.floats(0, 1)


@settings(max_examples=40)
@given(LOOKUPS, COSINES, COSINES, LIMITS)
def test_raising_the_threshold_never_adds_hits(
    lookups: list[PastLookup], a: float, b: float, limit: float | None
) -> None:
    low, high = (
        what_if(lookups, hit_threshold=at, near_threshold=0.5, limit=lambda _: limit)
        for at in sorted((a, b))
    )
    assert high.hits_then <= low.hits_then
    hits = {id(pair.lookup) for pair in low.gained}
    assert {id(pair.lookup) for pair in high.gained} <= hits


@given(past_lookups(), LIMITS)
def test_the_threshold_of_then_gives_what_happened(past: PastLookup, limit: float | None) -> None:
    told = what_if([past], hit_threshold=past.threshold, near_threshold=0.6, limit=lambda _: limit)
    assert told.hits_then == told.hits_now == past.hit
    assert (told.gained, told.lost, told.near_then) == ((), (), told.near_now)


@settings(max_examples=40)
@given(LOOKUPS, COSINES, COSINES)
def test_the_counts_add_up(lookups: list[PastLookup], at: float, near_at: float) -> None:
    told = asked(*lookups, at=at, near_at=near_at)
    assert told.lookups == len(lookups)
    assert told.hits_then == told.hits_now + len(told.gained) - len(told.lost)
    assert told.hits_then + told.near_then <= told.lookups
    assert told.hits_then + told.unknown <= told.lookups
    assert all(not pair.lookup.hit for pair in told.gained)
    assert all(pair.lookup.hit for pair in told.lost)
    assert all(pair.near.similarity >= at for pair in told.gained)


def test_a_guard_is_asked_of_what_only_its_cosine_kept_away() -> None:
    seen = examined(lookup(found(0.8), found(0.7, query=TWICE)), None, LEAST)
    assert [each.bar for each in seen.near] == [CLEARED, "guard numbers"]
    told = asked(seen, at=0.6)
    assert [pair.near.query for pair in told.gained] == [STORED]


def test_nobody_is_asked_about_what_the_threshold_does_not_reach() -> None:
    past = lookup(found(0.7))
    assert examined(past, FixedScore(0.1), 0.75) is past


def test_within_the_decision_point_it_is_a_hit_and_beyond_it_is_not() -> None:
    for risk, hits in ((0.2, 1), (0.21, 0)):
        seen = examined(lookup(found(0.8)), FixedScore(risk), LEAST)
        told = what_if([seen], hit_threshold=0.7, near_threshold=0.5, limit=lambda _: 0.2)
        assert told.hits_then == hits
    unscored = examined(lookup(found(0.8)), None, LEAST)
    told = what_if([unscored], hit_threshold=0.7, near_threshold=0.5, limit=lambda _: 0.2)
    assert told.hits_then == 0


def test_the_score_sees_where_the_entry_stood() -> None:
    near = tuple(found(0.9 - n / 10, rank=n, query=f"{STORED} {'please ' * n}") for n in range(3))
    past = lookup(*near)
    crowd = tuple(0.9 - n / 20 for n in range(NEIGHBORS))
    score = FixedScore(0.1)
    examined(past._replace(similarities=crowd), score, LEAST)
    assert [place.rank for place in score.shown] == [0, 1, 2]
    assert score.shown[0].density > 0


def test_other_earlier_turns_that_nobody_compared_are_counted_apart() -> None:
    told = asked(lookup(found(0.8, CLEARED, same_past=False)), at=0.7)
    assert (told.hits_then, told.unknown) == (0, 1)


def test_the_callers_own_bar_stays() -> None:
    assert asked(lookup(found(0.8, CLEARED, floor=0.85)), at=0.7).hits_then == 0


def test_the_riskiest_come_first_by_risk_and_then_by_cosine() -> None:
    rows = [
        lookup(found(similarity, CLEARED, risk=risk))
        for similarity, risk in ((0.9, None), (0.7, None), (0.95, 0.3), (0.8, 0.1))
    ]
    gained = asked(*rows, at=0.6).gained
    assert [pair.near.similarity for pair in gained] == [0.95, 0.8, 0.7, 0.9]


def test_near_hits_follow_the_near_threshold_and_leave_out_what_may_not_serve() -> None:
    rows = [lookup(found(0.7)), lookup(found(0.7, SCOPE)), lookup(found(0.55))]
    assert asked(*rows, at=0.9, near_at=0.5).near_then == 2
    assert asked(*rows, at=0.9, near_at=0.65).near_then == 1
    assert asked(*rows, at=0.9).near_now == 1
