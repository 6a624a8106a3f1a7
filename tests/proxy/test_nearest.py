"""Of what a search finds, only what every category's decision point lets pass is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.auth import Caller
from proxy.calibrated import LiveScore
from proxy.call import CallReader, Request
from proxy.metrics import Metrics
from proxy.nearest import Nearest
from proxy.outcome import Barrier, Lookup, Outcome
from proxy.recent_lookups import RecentLookups
from proxy.rules import InForce
from proxy.wire.chat import ChatWire
from store.cache import Cache
from store.decision.features import NEIGHBORS, Neighborhood
from store.decision.score import Score
from store.decision.what_if import examined
from store.entry import Candidate, EntryId, Held, PartitionKey, Vector
from store.policy import Policy, PolicyBook
from store.quarantine import Quarantine
from tests.encodings import encoding_of, rules_of
from tests.entries import NOON, near
from tests.fakes_documents import MemoryDocuments

ASKED = "How can I oil a hinge?"
STORED = "How do I oil a hinge?"
OTHER = "How would I oil a hinge?"


class FixedScore:
    """Says what it was told of each stored question, and notes what it was shown."""

    def __init__(self, risks: Mapping[str, float]) -> None:
        self.risks = risks
        self.shown: list[Neighborhood] = []

    def wrong(
        self, query: str, candidates: Sequence[tuple[str, str, Neighborhood]], category: str
    ) -> list[float]:
        self.shown += [place for *_, place in candidates]
        return [self.risks[stored] for stored, *_ in candidates]


class FoundCache:
    """Finds what it was told."""

    def __init__(self, found: list[Candidate]) -> None:
        self.found = found

    async def similar(
        self, key: PartitionKey, vector: Vector, k: int, *, checkpoint: str
    ) -> list[Candidate]:
        return self.found[:k]


def held(query: str, category: str = "default", age: timedelta = timedelta()) -> Held:
    return Held(
        id=EntryId(query),
        key=PartitionKey("p", ""),
        tenant="harbour",
        category=category,
        query=query,
        created_at=NOON - age,
        size=1,
        model="m",
    )


async def look_up(
    found: list[Candidate],
    risks: Mapping[str, float] | None,
    points: Mapping[str, float],
    *,
    budget: float | None = 0.1,
    other_budget: float | None = None,
    recent: RecentLookups | None = None,
) -> tuple[Lookup, FixedScore]:
    book = PolicyBook(
        {
            "default": Policy(name="default", hit_threshold=0.6, error_budget=budget),
            "other": Policy(name="other", hit_threshold=0.6, error_budget=other_budget),
        }
    )
    score = FixedScore(risks or {})
    live = LiveScore(cast(Score, score) if risks is not None else None)
    in_force = InForce(rules_of(book, encoding_of(score=live)))
    body = {"model": "m", "messages": [{"role": "user", "content": ASKED}]}
    request = Request(
        raw=orjson.dumps(body), header_list=[], headers={}, query_string=b"", request_id="r"
    )
    call = CallReader(in_force, {}, lambda model: "").read(
        ChatWire(), request, Caller(tenant="harbour")
    )
    call.place("default")
    nearest = Nearest(
        cache=cast(Cache, FoundCache(found)),
        quarantine=Quarantine(MemoryDocuments().records),
        in_force=in_force,
        point=lambda category, budget: points[category],
        metrics=Metrics(book.names, []),
        clock=lambda: NOON,
        max_wait=1,
        recent=recent,
    )
    return await nearest.find(call, near(0, 1.0), Lookup(Outcome.MISS)), score


def served(lookup: Lookup) -> Any:
    return None if lookup.found is None else lookup.found.held.query


@pytest.mark.parametrize(("risk", "hit"), [(0.19, True), (0.2, True), (0.21, False)])
async def test_a_risk_up_to_the_decision_point_is_served(risk: float, hit: bool) -> None:
    lookup, _ = await look_up([Candidate(held(STORED), 0.9)], {STORED: risk}, {"default": 0.2})
    assert (lookup.outcome is Outcome.HIT) is hit
    if lookup.found is not None:
        assert lookup.found.risk == risk
    else:
        assert lookup.near is not None and lookup.near_risk == risk


async def test_a_point_of_nothing_serves_not_even_no_risk() -> None:
    lookup, _ = await look_up([Candidate(held(STORED), 1.0)], {STORED: 0.0}, {"default": 0.0})
    assert lookup.outcome is Outcome.MISS


async def test_the_least_doubtful_answers_and_not_the_nearest() -> None:
    found = [Candidate(held(STORED), 0.95), Candidate(held(OTHER), 0.85)]
    lookup, _ = await look_up(found, {STORED: 0.15, OTHER: 0.05}, {"default": 0.2})
    assert served(lookup) == OTHER


def barriers(lookup: Lookup) -> list[Barrier | None]:
    assert lookup.searched is not None
    return [judgement.barrier for judgement in lookup.searched.judgements]


async def test_who_is_sure_and_stands_clear_answers_and_the_others_are_not_read() -> None:
    found = [
        Candidate(held(STORED), 0.95),
        Candidate(held(OTHER), 0.89),
        Candidate(held("How do I not oil a hinge?"), 0.85),
        Candidate(held("How is a hinge made?"), 0.55),
    ]
    lookup, score = await look_up(found, {STORED: 0.09}, {"default": 0.2})
    assert served(lookup) == STORED
    assert lookup.found is not None and lookup.found.risk == 0.09
    assert len(score.shown) == 1
    assert barriers(lookup) == [None, Barrier.FARTHER, Barrier.FARTHER, Barrier.THRESHOLD]


async def test_all_are_read_where_another_is_nearly_as_near() -> None:
    found = [Candidate(held(STORED), 0.95), Candidate(held(OTHER), 0.91)]
    lookup, _ = await look_up(found, {STORED: 0.05, OTHER: 0.01}, {"default": 0.2})
    assert served(lookup) == OTHER
    assert barriers(lookup) == [Barrier.OUTDONE, None]


async def test_another_may_answer_where_a_guard_forbids_the_nearest() -> None:
    negated = "How can I not oil a hinge?"
    found = [Candidate(held(negated), 0.99), Candidate(held(STORED), 0.85)]
    lookup, _ = await look_up(found, {STORED: 0.05}, {"default": 0.2})
    assert served(lookup) == STORED
    assert barriers(lookup) == [Barrier.GUARD, None]


async def test_where_the_nearest_is_far_too_doubtful_the_others_are_not_read() -> None:
    found = [
        Candidate(held("How can I not oil a hinge?"), 0.77),
        Candidate(held(STORED), 0.74),
        Candidate(held(OTHER), 0.73),
        Candidate(held("How is a hinge made?"), 0.55),
    ]
    lookup, score = await look_up(found, {STORED: 0.31}, {"default": 0.2})
    assert lookup.outcome is Outcome.MISS
    assert len(score.shown) == 1
    farther = [Barrier.GUARD, Barrier.SCORE, Barrier.FARTHER, Barrier.THRESHOLD]
    assert barriers(lookup) == farther


@pytest.mark.parametrize(("risk", "cosine"), [(0.29, 0.7), (0.9, 0.76)])
async def test_where_it_is_near_or_only_somewhat_too_doubtful_another_may_answer(
    risk: float, cosine: float
) -> None:
    found = [Candidate(held(STORED), cosine), Candidate(held(OTHER), cosine - 0.01)]
    lookup, _ = await look_up(found, {STORED: risk, OTHER: 0.19}, {"default": 0.2})
    assert served(lookup) == OTHER
    assert barriers(lookup) == [Barrier.SCORE, None]


async def test_too_doubtful_for_a_stricter_category_of_its_own_says_nothing_of_the_others() -> None:
    found = [Candidate(held(STORED, "other"), 0.74), Candidate(held(OTHER), 0.73)]
    points = {"default": 0.2, "other": 0.01}
    lookup, _ = await look_up(found, {STORED: 0.19, OTHER: 0.19}, points, other_budget=0.01)
    assert served(lookup) == OTHER


async def test_of_one_that_expired_the_others_are_read() -> None:
    old = held("How could I oil a hinge?", age=timedelta(days=2))
    found = [Candidate(old, 0.99), Candidate(held(STORED), 0.85)]
    lookup, _ = await look_up(found, {old.query: 0.01, STORED: 0.05}, {"default": 0.2})
    assert served(lookup) == STORED
    assert barriers(lookup) == [Barrier.EXPIRED, None]


@given(
    cosines=st.lists(st.floats(0.5, 1.0), min_size=1, max_size=4),
    risks=st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4),
)
@settings(max_examples=50, deadline=None)
async def test_what_is_served_is_within_its_budget_and_nothing_is_where_the_nearest_is_hopeless(
    cosines: list[float], risks: list[float]
) -> None:
    texts = [STORED, OTHER, "How could I oil a hinge?", "How does one oil a hinge?"]
    cosines.sort(reverse=True)
    found = [Candidate(held(text), near) for text, near in zip(texts, cosines, strict=False)]
    risk_of = dict(zip(texts, risks, strict=True))
    lookup, _ = await look_up(found, risk_of, {"default": 0.2})
    allowed = [each for each in found if each.similarity >= 0.6 and risk_of[each.held.query] <= 0.2]
    hopeless = 0.6 <= found[0].similarity < 0.75 and risk_of[STORED] > 0.2 * 1.5
    assert (lookup.found is None) is (hopeless or not allowed)
    if lookup.found is not None:
        assert lookup.found.held in [each.held for each in allowed]
        least = min(risk_of[each.held.query] for each in allowed)
        assert lookup.found.risk is not None
        assert lookup.found.risk <= max(0.1, least)


@pytest.mark.parametrize(("other_point", "hit"), [(0.1, True), (0.04, False)])
async def test_the_entrys_own_category_has_a_say(other_point: float, hit: bool) -> None:
    points = {"default": 0.2, "other": other_point}
    found = [Candidate(held(STORED, "other"), 0.9)]
    lookup, _ = await look_up(found, {STORED: 0.05}, points, other_budget=0.01)
    assert (lookup.outcome is Outcome.HIT) is hit


async def test_a_budget_on_either_side_asks_for_the_score() -> None:
    found = [Candidate(held(STORED, "other"), 0.9)]
    lookup, _ = await look_up(found, {STORED: 0.5}, {"other": 0.2}, budget=None, other_budget=0.1)
    assert lookup.outcome is Outcome.MISS


async def test_without_a_budget_nobody_asks_the_score() -> None:
    lookup, score = await look_up([Candidate(held(STORED), 0.9)], {}, {}, budget=None)
    assert served(lookup) == STORED
    assert score.shown == []


async def test_without_a_score_a_budget_lets_nothing_pass() -> None:
    lookup, _ = await look_up([Candidate(held(STORED), 0.99)], None, {"default": 1.0})
    assert lookup.outcome is Outcome.MISS


async def test_a_guards_veto_is_never_scored() -> None:
    negated = "How do I not oil a hinge?"
    found = [Candidate(held(negated), 0.97)]
    lookup, score = await look_up(found, {negated: 0.0}, {"default": 1.0})
    assert lookup.outcome is Outcome.MISS
    assert score.shown == []


async def test_the_score_sees_where_a_candidate_stands_among_all_that_were_found() -> None:
    far = [Candidate(held(f"Is number {n} far away?"), 0.5 - n / 100) for n in range(NEIGHBORS - 1)]
    found = [Candidate(held(STORED), 0.9), *far]
    _, score = await look_up(found, {STORED: 0.05}, {"default": 0.2})
    (place,) = score.shown
    assert place.margin == pytest.approx(0.4)
    assert place.density == pytest.approx(sum(each.similarity for each in found) / NEIGHBORS)


async def test_what_has_expired_is_stale_only_if_it_could_have_been_served() -> None:
    old = [Candidate(held(STORED, age=timedelta(days=2)), 0.9)]
    lookup, _ = await look_up(old, {STORED: 0.05}, {"default": 0.2})
    assert lookup.outcome is Outcome.STALE
    lookup, _ = await look_up(old, {STORED: 0.5}, {"default": 0.2})
    assert lookup.outcome is Outcome.MISS


async def test_what_was_looked_up_is_remembered_with_what_kept_each_from_a_hit() -> None:
    recent = RecentLookups(100)
    found = [
        Candidate(held("How do I not oil a hinge?"), 0.95),
        Candidate(held(OTHER), 0.9),
        Candidate(held(STORED, age=timedelta(days=2)), 0.8),
    ]
    await look_up(found, {OTHER: 0.5, STORED: 0.1}, {"default": 0.2}, recent=recent)
    (row,) = recent.of("default").values()
    assert [each.bar for each in row.near] == ["guard negation", "score", "expired"]
    assert [each.risk for each in row.near] == [None, 0.5, 0.1]
    assert not row.hit


async def test_of_what_was_not_read_the_dashboard_knows_only_that() -> None:
    recent = RecentLookups(100)
    found = [Candidate(held(STORED), 0.95), Candidate(held("How do I not oil a hinge?"), 0.85)]
    await look_up(found, {STORED: 0.05}, {"default": 0.2}, recent=recent)
    (row,) = recent.of("default").values()
    assert [each.bar for each in row.near] == ["", "threshold"]
    assert [each.bar for each in examined(row, None, 0.8).near] == ["", "guard negation"]


async def test_a_hit_is_remembered_with_who_answered() -> None:
    recent = RecentLookups(100)
    found = [
        Candidate(held(STORED), 0.95),
        Candidate(held(OTHER), 0.85),
        Candidate(held("How is a hinge made?"), 0.55),
    ]
    await look_up(found, {STORED: 0.15, OTHER: 0.05}, {"default": 0.2}, recent=recent)
    (row,) = recent.of("default").values()
    assert row.near[row.served].query == OTHER
    assert [each.bar for each in row.near] == ["", "", "threshold"]
