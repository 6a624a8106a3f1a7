"""How sure a small model was becomes the quality that its answer probably has."""

from __future__ import annotations

import random
from math import exp, inf, log, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.confidence import TOKENS, Confidence, ConfidenceModel, confidence_of

PROBABILITIES = st.floats(0.0, 1.0)
CONFIDENCES = st.builds(Confidence, PROBABILITIES, PROBABILITIES)


def model() -> ConfidenceModel:
    return ConfidenceModel(noise=0.2)


@given(st.lists(st.floats(-50.0, 0.0), min_size=1, max_size=80))
def test_the_least_is_not_above_the_mean_and_late_tokens_count_not(
    logprobs: list[float],
) -> None:
    told = confidence_of(logprobs)
    assert told is not None
    assert 0.0 <= told.least <= told.mean + 1e-12 <= 1.0 + 1e-12
    assert told == confidence_of(logprobs[:TOKENS])


def test_a_confidence_is_of_probabilities() -> None:
    told = confidence_of([log(0.9), log(0.4)])
    assert told == pytest.approx((0.4, exp((log(0.9) + log(0.4)) / 2)))


@pytest.mark.parametrize("logprobs", [[], [nan], [-1.0, -inf], [0.1]])
def test_what_is_no_row_of_log_probabilities_has_no_confidence(logprobs: list[float]) -> None:
    assert confidence_of(logprobs) is None


def test_before_anything_is_judged_the_least_probability_decides() -> None:
    known = model()
    low, middle, high = (known.quality(Confidence(p, p)) for p in (0.1, 0.5, 0.95))
    assert low < 0.3 < middle < 0.7 < high


@given(st.lists(st.tuples(CONFIDENCES, PROBABILITIES, PROBABILITIES), max_size=30), CONFIDENCES)
def test_whatever_is_learnt_a_quality_is_one_and_is_kept(
    seen: list[tuple[Confidence, float, float]], asked: Confidence
) -> None:
    known, again = model(), model()
    for each in seen:
        known.learn(*each)
    again.restore(known.as_data())
    assert 0.0 <= known.quality(asked) <= 1.0
    assert again.quality(asked) == pytest.approx(known.quality(asked), abs=1e-3)


@pytest.mark.parametrize("bound", [0.3, 0.8])
def test_where_confidence_begins_to_be_worth_something_is_learnt(bound: float) -> None:
    """A model that is right exactly above a bound: the prior knows of neither."""
    known, draw = model(), random.Random(5)
    for _ in range(200):
        p = draw.random()
        known.learn(Confidence(p, p), float(p > bound), 1.0)
    assert known.quality(Confidence(bound - 0.25, bound - 0.25)) < 0.5
    assert known.quality(Confidence(min(1.0, bound + 0.25), min(1.0, bound + 0.25))) > 0.5


def test_a_model_that_is_sure_and_wrong_loses_its_credit() -> None:
    known, sure = model(), Confidence(0.97, 0.99)
    before = known.quality(sure)
    for _ in range(30):
        known.learn(sure, 0.0, 1.0)
    after = known.quality(sure)
    assert after < 0.4 < 0.9 < before
    known.forget(1.0)
    assert known.quality(sure) == pytest.approx(before)
