"""Sampling takes each arm as often as it says it will, and pays prices."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.arms import Arm
from icl.thompson import Belief, Prices, chances, sample, scores

BELIEFS = st.builds(Belief, st.floats(0.0, 1.0), st.floats(0.01, 0.5))
PRICES = st.builds(Prices, st.floats(0.0, 1.3), st.floats(0.0, 1.0))
GOOD, POOR = Belief(0.8, 0.1), Belief(0.3, 0.2)
FREE = Prices(0.4, 0.0)


@given(st.lists(BELIEFS, max_size=2), PRICES)
def test_chances_are_a_distribution(beliefs: list[Belief], prices: Prices) -> None:
    found = chances(dict(zip((Arm.EXAMPLES, Arm.SMALL), beliefs, strict=False)), prices)
    assert sum(found.values()) == pytest.approx(1.0)
    assert all(-1e-9 <= chance <= 1.0 + 1e-9 for chance in found.values())


@pytest.mark.parametrize(
    "beliefs",
    [
        {},
        {Arm.SMALL: Belief(0.65, 0.1)},
        {Arm.EXAMPLES: Belief(0.7, 0.15), Arm.SMALL: Belief(0.6, 0.2)},
        {Arm.EXAMPLES: Belief(0.7, 0.02), Arm.SMALL: Belief(0.69, 0.3)},
    ],
)
def test_arms_are_sampled_as_often_as_their_chances_say(beliefs: dict[Arm, Belief]) -> None:
    draw, prices = random.Random(3), Prices(0.4, 0.1)
    drawn = Counter(sample(beliefs, prices, draw) for _ in range(20_000))
    for arm, chance in chances(beliefs, prices).items():
        assert drawn[arm] / 20_000 == pytest.approx(chance, abs=0.015)


def test_without_load_a_free_small_arm_wins_exactly_from_the_floor_on() -> None:
    floor, draw = 0.6, random.Random(0)
    for quality, arm in ((0.599, Arm.REQUESTED), (0.601, Arm.SMALL)):
        beliefs = {Arm.SMALL: Belief(quality, 1e-9)}
        assert sample(beliefs, Prices(1.0 - floor, 0.0), draw) is arm


def test_a_small_arm_that_costs_as_much_must_be_as_good() -> None:
    assert Prices(0.4, 1.0).bar == pytest.approx(1.0)


@given(BELIEFS, st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 0.5))
def test_load_moves_requests_to_the_small_model(
    belief: Belief, toll: float, price: float, load: float
) -> None:
    calm = chances({Arm.SMALL: belief}, Prices(toll, price))[Arm.SMALL]
    busy = chances({Arm.SMALL: belief}, Prices(toll + load, price))[Arm.SMALL]
    assert busy >= calm - 1e-9


def test_scores_are_quality_less_the_price() -> None:
    found = scores({Arm.EXAMPLES: GOOD, Arm.SMALL: POOR}, Prices(0.4, 0.5))
    assert found == pytest.approx({Arm.REQUESTED: 0.6, Arm.EXAMPLES: 0.6, Arm.SMALL: 0.1})


def test_the_better_arm_is_taken_nearly_always() -> None:
    assert chances({Arm.EXAMPLES: GOOD, Arm.SMALL: POOR}, FREE)[Arm.EXAMPLES] > 0.9
