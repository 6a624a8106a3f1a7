"""The composed stream."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.nearhits.stream_plan import GOOD, HARD, compose, phases
from bench.nearhits.tasks import Item, Split

SPLIT = Split(
    tuple(Item(t, f"{t} {n}?", str(n)) for t in (*GOOD, *HARD, "other") for n in range(60)), ()
)


def test_the_small_model_is_spoilt_at_two_thirds_and_the_overload_goes_on_a_while() -> None:
    plan = phases(3000, 1.0)
    assert (plan.overload, plan.spoilt, plan.calm) == (600, 2000, 2200)
    assert [plan.rate_at(index) for index in (0, 600, 2199, 2200)] == [0.9, 2.2, 2.2, 0.9]


def test_a_short_stream_ends_calm_too() -> None:
    plan = phases(300, 2.0)
    assert plan.spoilt < plan.calm < plan.requests


def test_no_question_comes_twice_and_a_fifth_is_hard() -> None:
    asks = compose(SPLIT, phases(300, 1.0), 1)
    assert len({ask.item.question for ask in asks}) == 300
    counts = Counter(ask.item.task for ask in asks)
    assert sum(counts[task] for task in HARD) == 60
    assert {counts[task] for task in HARD} == {12}
    assert {counts[task] for task in GOOD} == {40}
    assert "other" not in counts


def test_arrivals_go_on_and_are_denser_in_the_overload() -> None:
    plan = phases(300, 1.0)
    asks = compose(SPLIT, plan, 1)
    times = [ask.at for ask in asks]
    assert times == sorted(times)
    overload = times[plan.calm - 1] - times[plan.overload]
    assert (plan.calm - plan.overload) / overload == pytest.approx(2.2, rel=0.2)


def test_it_is_the_same_for_a_seed() -> None:
    plan = phases(90, 1.0)
    assert compose(SPLIT, plan, 3) == compose(SPLIT, plan, 3) != compose(SPLIT, plan, 4)


def test_too_few_questions_are_an_error() -> None:
    with pytest.raises(ValueError, match="660 questions are too few for 5000 requests"):
        compose(SPLIT, phases(5000, 1.0), 1)
