from __future__ import annotations

import random
from collections.abc import Mapping

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.answer_text import Tokens
from proxy.errors import ApiError
from proxy.metrics import Metrics
from proxy.outcome import Served
from proxy.spending import Price
from proxy.upstream_errors import ModelUnknown, UpstreamTimeout
from proxy.usage.counting import Usage
from proxy.usage.prices import prices_for
from store.documents.usage import Span, UsageKey, UsageRow, merged
from store.economics import Economics
from store.flight import Flight
from tests.entries import NOON
from tests.proxy.usage.calls import call_of, hit, miss, one, whole_of

PRICES = [Price("gpt-4o-mini", 1.0, 10.0), Price("small", 0.5, 0.5)]


def counting(economics: Economics | None = None) -> Usage:
    return Usage(
        prices=prices_for("EUR", PRICES),
        metrics=Metrics(["default"], []),
        economics=economics or Economics(),
    )


def day(usage: Usage, served: Served) -> Mapping[str, float]:
    return one([row for row in usage.rows(NOON) if row.key.span is Span.DAY], served)


def test_a_hit_saves_the_tokens_the_money_and_the_time_of_its_answer() -> None:
    usage = counting()
    for _ in range(2):
        usage.answered(call_of(), hit(tokens=Tokens(100, 10), cost=2.0), 0.5)
    assert day(usage, Served.EXACT) == {
        "requests": 2,
        "saved_prompt_tokens": 200,
        "saved_completion_tokens": 20,
        "saved_seconds": 3.0,
        "saved": pytest.approx(400e-6),
    }
    (minute,) = [row for row in usage.rows(NOON) if row.key.span is Span.MINUTE]
    assert minute.amounts["ms_le_819.2"] == 2
    assert (minute.key.tenant, minute.key.model) == ("", "")


def test_an_entry_that_does_not_say_how_long_it_took_saves_what_answers_usually_take() -> None:
    economics = Economics()
    usage = counting(economics)
    usage.answered(call_of(), hit(cost=0.0), 0.5)
    assert "saved_seconds" not in day(usage, Served.EXACT)
    economics.answered("default", "fake", 3.0)
    usage.answered(call_of(), hit(cost=0.0), 0.5)
    assert day(usage, Served.EXACT)["saved_seconds"] == 2.5


def test_tokens_that_nobody_told_are_said_to_be_unknown() -> None:
    usage = counting()
    usage.answered(call_of(), hit(tokens=None), 0.001)
    usage.used(call_of(), None, bypass=False)
    assert day(usage, Served.EXACT)["unmetered"] == 1
    assert day(usage, Served.MISS) == {"unmetered": 1}


def test_an_entry_that_is_stored_anew_counts_for_what_it_is_now() -> None:
    usage = counting()
    stored = hit(id=str(call_of().id))
    usage.learn(call_of().id, whole_of(Tokens(7, 3)))
    usage.answered(call_of(), stored, 0.001)
    assert day(usage, Served.EXACT)["saved_prompt_tokens"] == 7


def test_a_miss_spends_and_a_model_without_a_price_is_said_to_have_none() -> None:
    usage = counting()
    usage.answered(call_of(), miss(), 1.5)
    usage.used(call_of(), whole_of(Tokens(1000, 100)), bypass=False)
    usage.used(call_of(model="nobody's"), whole_of(Tokens(5, 5)), bypass=True)
    assert day(usage, Served.MISS) == {
        "requests": 1, "prompt_tokens": 1000, "completion_tokens": 100,
        "spent": pytest.approx(0.002),
    }  # fmt: skip
    assert day(usage, Served.BYPASS) == {
        "prompt_tokens": 5, "completion_tokens": 5, "unpriced": 1,
    }  # fmt: skip


def test_an_answer_that_nobody_else_reads_is_read_here() -> None:
    usage = counting()
    answer = miss(Served.BYPASS)
    answer.unread, answer.body = True, orjson.dumps(whole_of(Tokens(3, 4)))
    usage.answered(call_of(), answer, 0.1)
    assert day(usage, Served.BYPASS)["completion_tokens"] == 4


async def test_who_shares_a_call_saves_its_tokens() -> None:
    usage = counting()
    answer = miss(Served.COLLAPSED)
    answer.flight = Flight("1", 10, lambda flight: None)
    answer.flight.finish(whole_of(Tokens(3, 4)))
    usage.answered(call_of(), answer, 0.1)
    found = day(usage, Served.COLLAPSED)
    assert (found["saved_prompt_tokens"], found["saved_completion_tokens"]) == (3, 4)


def test_a_small_model_saves_the_difference_without_the_examples() -> None:
    usage = counting()
    usage.answered(call_of(), miss(Served.NEAR_HIT), 0.1)
    usage.used_instead(call_of(), "small", whole_of(Tokens(1000, 100)), 400)
    found = day(usage, Served.NEAR_HIT)
    assert found["spent"] == pytest.approx(1100 * 0.5e-6)
    assert found["saved"] == pytest.approx(600e-6 + 1000e-6 - 550e-6)


def test_an_answer_that_does_not_go_out_costs_and_saves_nothing() -> None:
    usage = counting()
    usage.unsent(call_of(), "small", whole_of(Tokens(1000, 100)))
    usage.unsent(call_of(), "small", None)
    found = day(usage, Served.NEAR_HIT)
    assert found == {
        "prompt_tokens": 1000, "completion_tokens": 100, "unmetered": 1,
        "spent": pytest.approx(1100 * 0.5e-6), "saved": pytest.approx(-1100 * 0.5e-6),
    }  # fmt: skip


def test_only_requests_that_nobody_answered_have_failed() -> None:
    usage = counting()
    usage.failed(call_of(), UpstreamTimeout("late"), 1.0)
    usage.failed(call_of(), ModelUnknown("who?"), 1.0)
    usage.failed(call_of(), ApiError(400, "no"), 1.0)
    usage.failed(call_of(), ApiError(504, "not here", code="not_in_cache"), 1.0)
    usage.answered(call_of(), miss(status=503), 1.0)
    usage.answered(call_of(), miss(status=404), 1.0)
    assert day(usage, Served.FAILED)["requests"] == 2
    assert day(usage, Served.MISS)["requests"] == 1


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["acme", "globex"]),
        st.sampled_from(["gpt-4o-mini", "small", "nobody's"]),
        st.sampled_from([Served.EXACT, Served.SEMANTIC]),
        st.sampled_from([0.0001, 0.001, 0.5, 1000.0]),
    ),
    max_size=25,
)


def plain(rows: list[UsageRow]) -> dict[UsageKey, dict[str, float]]:
    """Return the sums, to as many digits as sums of floats agree in."""
    return {
        key: {name: float(f"{n:.9g}") for name, n in amounts.items()}
        for key, amounts in merged(rows)
    }


@given(events=EVENTS, taken=st.sets(st.integers(0, 25)), order=st.randoms())
def test_counts_are_the_same_in_any_order_and_however_often_they_are_taken(
    events: list[tuple[str, str, Served, float]], taken: set[int], order: random.Random
) -> None:
    at_once, in_parts = counting(), counting()
    for tenant, model, served, seconds in events:
        at_once.answered(call_of(tenant=tenant, model=model), hit(served), seconds)
    order.shuffle(events)
    rows: list[UsageRow] = []
    for number, (tenant, model, served, seconds) in enumerate(events):
        in_parts.answered(call_of(tenant=tenant, model=model), hit(served), seconds)
        if number in taken:
            rows += in_parts.take(NOON)
    rows += in_parts.take(NOON)
    assert in_parts.take(NOON) == []
    assert plain(rows) == plain(at_once.rows(NOON))
