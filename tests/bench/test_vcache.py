"""vCache's rule as described: few labels explore, sure entries serve, and errors stay in bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.vcache import Fit, Observations, Verified, explore_probability, fitted


def observed(*labels: tuple[float, bool]) -> Observations:
    observations = Observations()
    for similarity, right in labels:
        observations.add(similarity, right)
    return observations


def test_an_entry_with_fewer_than_four_labels_always_explores() -> None:
    three = observed(*[(0.99, True)] * 3)
    assert three.explore_probability(1.0, 0.01) == 1.0
    three.add(0.99, True)
    assert three.explore_probability(1.0, 0.01) < 1.0


def test_a_regression_without_a_clean_cut_finds_its_slope_and_threshold() -> None:
    chance = random.Random(3)
    similarities = [chance.uniform(0.5, 1.0) for _ in range(4000)]
    right = [chance.random() < 1 / (1 + 2.718281828 ** (-30 * (s - 0.8))) for s in similarities]
    fit = fitted(similarities, right)
    assert fit.threshold == pytest.approx(0.8, abs=0.01)
    assert fit.slope == pytest.approx(30, rel=0.15)
    assert fit.variance**0.5 == pytest.approx(0.003, abs=0.002)


def test_a_clean_cut_lies_in_the_middle_and_is_as_sure_as_the_table_says() -> None:
    fit = fitted([0.0, 0.7, 0.75, 0.85, 0.9, 1.0], [False, False, False, True, True, True])
    assert fit.threshold == pytest.approx(0.8, abs=0.01)
    assert fit.variance == pytest.approx(0.0354)


@given(
    st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 500), st.floats(0, 0.05), st.floats(0.001, 0.2)
)
def test_the_probability_is_one_and_nearer_is_never_explored_more(
    near: float, threshold: float, slope: float, variance: float, delta: float
) -> None:
    fit = Fit(threshold, slope, variance)
    here = explore_probability(near, fit, delta)
    assert 0 <= here <= 1
    assert explore_probability(min(1.0, near + 0.1), fit, delta) <= here + 1e-12
    assert explore_probability(near, fit, min(1.0, delta * 2)) <= here + 1e-12


@pytest.mark.slow
def test_on_one_entry_with_true_labels_the_error_stays_below_delta() -> None:
    served = wrong = asked = 0
    for seed in range(10):
        chance = random.Random(seed)
        rule = Verified(0.05, chance)
        for _ in range(300):
            similarity = chance.uniform(0.6, 1.0)
            right = chance.random() < (0.99 if similarity > 0.85 else 0.05)
            asked += 1
            if rule.serves(0, similarity):
                served += 1
                wrong += not right
            else:
                rule.learn(0, similarity, right)
    assert served > 0.05 * asked
    assert wrong <= 0.05 * asked


def test_an_entry_that_nobody_labelled_serves_nothing() -> None:
    rule = Verified(0.5, random.Random(1))
    assert not any(rule.serves(7, 1.0) for _ in range(100))
