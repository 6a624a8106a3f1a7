"""The score fitted to one's own labels: honest where they are many, as shipped where there are few.

What is served may shrink on any evidence of random samples, and grow only on enough of it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from store.decision.calibration import (
    FLATTEST,
    SHIPPED,
    STEEPEST,
    Labels,
    as_shipped,
    held_out,
    measured,
    recalibrated,
    scaling_of,
)
from store.decision.score import Points
from store.decision.score_model import Floats, wrong_of

POINTS: Points = ((0.005, 0.0), (0.01, 0.02), (0.05, 0.1), (0.2, 0.3))
NONE = Labels(np.empty(0), np.empty(0, bool), np.empty(0, bool), np.empty(0, int))
ODDS = st.floats(-40, 40)


@st.composite
def any_labels(draw: st.DrawFn) -> Labels:
    rows = draw(
        st.lists(st.tuples(ODDS, st.booleans(), st.booleans(), st.integers(0, 4)), max_size=60)
    )
    return Labels(
        np.array([row[0] for row in rows], float),
        np.array([row[1] for row in rows], bool),
        np.array([row[2] for row in rows], bool),
        np.array([row[3] for row in rows], int),
    )


def labels_of(odds: Floats, right: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Labels:
    count = len(odds)
    return Labels(odds, right, np.ones(count, bool), np.arange(count) % 5)


def drawn(count: int, slope: float, bias: float, seed: int = 0) -> Labels:
    """Return samples of a traffic on which the shipped log-odds are off by this line."""
    chance = np.random.default_rng(seed)
    odds = chance.normal(1.0, 2.0, count)
    return labels_of(odds, chance.random(count) < 1 / (1 + np.exp(-(slope * odds + bias))))


def passes(points: Points, line: tuple[float, float], odds: float) -> list[bool]:
    risk = float(wrong_of(np.array([odds]), line)[0])
    return [risk <= point for _, point in points]


def test_without_labels_everything_stays_as_shipped() -> None:
    new = recalibrated(NONE, POINTS, may_loosen=True)
    assert new.scaling == SHIPPED
    np.testing.assert_allclose(new.points, POINTS, rtol=1e-12)


def test_a_score_that_is_honest_already_stays_nearly_as_it_is() -> None:
    slope, bias = scaling_of(drawn(5000, 1.0, 0.0))
    assert abs(slope - 1) < 0.1
    assert abs(bias) < 0.1


def test_a_score_that_says_too_much_is_found_out() -> None:
    labels = drawn(5000, 0.5, -0.7)
    slope, bias = scaling_of(labels)
    assert abs(slope - 0.5) < 0.1
    assert abs(bias + 0.7) < 0.1
    before = measured(as_shipped(labels), labels, 0.1)
    after = measured(held_out(labels), labels, 0.1)
    assert after.log_loss < before.log_loss - 0.02
    assert after.error < before.error / 2


def test_a_few_labels_move_the_line_a_little() -> None:
    one = labels_of(np.zeros(1), np.zeros(1, bool))
    assert -0.5 < scaling_of(one)[1] < 0.0
    assert scaling_of(drawn(2000, 1.0, -2.0))[1] < -1.8


@given(any_labels())
def test_the_line_is_finite_and_rising_whatever_the_labels(labels: Labels) -> None:
    slope, bias = scaling_of(labels)
    assert FLATTEST <= slope <= STEEPEST
    assert math.isfinite(bias)


def test_labels_that_one_threshold_parts_give_a_finite_line() -> None:
    odds = np.linspace(-5, 5, 400)
    slope, bias = scaling_of(labels_of(odds, odds > 0))
    assert 1 < slope <= STEEPEST
    assert abs(bias) < 1


def test_labels_that_turn_the_order_round_do_not_turn_the_decision_round() -> None:
    odds = np.linspace(-5, 5, 400)
    slope, bias = scaling_of(labels_of(odds, odds < 0))
    assert slope == FLATTEST
    assert abs(bias) < 1


@given(any_labels(), st.tuples(ODDS, ODDS))
def test_what_is_likelier_right_as_shipped_is_no_likelier_wrong_afterwards(
    labels: Labels, pair: tuple[float, float]
) -> None:
    low, high = wrong_of(np.array(sorted(pair)), scaling_of(labels))
    assert high <= low


@given(any_labels(), st.booleans())
def test_points_stay_probabilities_that_rise_with_the_budget(
    labels: Labels, may_loosen: bool
) -> None:
    new = recalibrated(labels, POINTS, may_loosen=may_loosen)
    points = [point for _, point in new.points]
    assert [budget for budget, _ in new.points] == [budget for budget, _ in POINTS]
    assert points == sorted(points)
    assert all(0 <= point <= 1 for point in points)


@given(any_labels(), ODDS)
def test_nothing_is_served_that_the_shipped_points_refuse_unless_it_may_loosen(
    labels: Labels, odds: float
) -> None:
    new = recalibrated(labels, POINTS, may_loosen=False)
    strict = passes(POINTS, SHIPPED, odds + 1e-6)  # what is equal may round either way
    assert all(
        allowed or not served
        for allowed, served in zip(strict, passes(new.points, new.scaling, odds), strict=True)
    )


@given(any_labels(), ODDS)
def test_feedback_alone_changes_nothing_that_is_served(labels: Labels, odds: float) -> None:
    said = replace(labels, random=np.zeros(len(labels.right), bool))
    new = recalibrated(said, POINTS, may_loosen=True)
    served = passes(new.points, new.scaling, odds)
    near = [passes(POINTS, SHIPPED, odds + shift) for shift in (-1e-6, 1e-6)]
    assert served in near or near[0] != near[1]


def test_feedback_says_which_are_wrong_and_not_how_many() -> None:
    fair = drawn(4000, 1.0, 0.0)
    wrong = ~drawn(4000, 1.0, 0.0, seed=1).right
    grumbled = drawn(4000, 1.0, 0.0, seed=1).kept(wrong)  # only wrong answers are spoken of
    both = Labels(
        np.concatenate([fair.log_odds, grumbled.log_odds]),
        np.concatenate([fair.right, grumbled.right]),
        np.concatenate([fair.random, np.zeros(len(grumbled.right), bool)]),
        np.concatenate([fair.fold, grumbled.fold]),
    )
    for ours, theirs in zip(scaling_of(both), scaling_of(fair), strict=True):
        assert abs(ours - theirs) < 0.1
    blind = replace(both, random=np.ones(len(both.right), bool))
    assert scaling_of(blind)[1] < -0.3  # what it would come to if they counted as samples


def band(count: int, wrong: int, odds: float) -> Labels:
    return labels_of(np.full(count, odds), np.arange(count) >= wrong)


def joined(*parts: Labels) -> Labels:
    return labels_of(
        np.concatenate([part.log_odds for part in parts]),
        np.concatenate([part.right for part in parts]),
    )


BETWEEN = 3.0  # P(wrong) 0.047: the shipped point of the budget 0.01 refuses it, the next does not
WITHIN = 5.0  # 0.0067
BEYOND = -2.0


def serves(labels: Labels, odds: float, *, may_loosen: bool = True) -> bool:
    new = recalibrated(labels, POINTS, may_loosen=may_loosen)
    return passes(new.points, new.scaling, odds)[1]  # at the budget 0.01


def test_a_point_loosens_only_when_what_is_added_is_itself_within_the_budget() -> None:
    wrong_ones = band(100, 100, BEYOND)
    good = joined(band(500, 0, WITHIN), band(800, 0, BETWEEN), wrong_ones)
    assert serves(good, BETWEEN)
    assert not serves(good, BETWEEN, may_loosen=False)
    assert not serves(good, BEYOND)
    few = joined(band(500, 0, WITHIN), band(200, 0, BETWEEN), wrong_ones)
    assert not serves(few, BETWEEN)
    # Diluted by what is served already, the whole would be within the budget.
    worse = joined(band(5000, 0, WITHIN), band(800, 8, BETWEEN), wrong_ones)
    assert not serves(worse, BETWEEN)


def test_a_point_tightens_when_what_it_serves_is_wrong_too_often() -> None:
    safer = 7.0
    labels = joined(band(400, 0, safer), band(100, 20, WITHIN), band(100, 100, BEYOND))
    assert serves(labels, safer)
    assert not serves(labels, WITHIN)
    assert not serves(joined(band(20, 10, WITHIN), band(100, 100, BEYOND)), WITHIN)


def test_a_single_wrong_one_does_not_close_a_category() -> None:
    assert serves(joined(band(100, 1, WITHIN), band(100, 100, BEYOND)), WITHIN)


def test_enough_means_of_either_kind_and_drawn_at_random() -> None:
    labels = joined(band(50, 30, WITHIN))
    assert labels.enough(20)
    assert not labels.enough(21)
    assert not replace(labels, random=np.zeros(50, bool)).enough(1)


def test_measures_count_what_a_point_serves_of_the_random_samples() -> None:
    labels = replace(joined(band(4, 1, WITHIN), band(2, 2, BEYOND)), random=np.arange(6) != 3)
    shown = measured(as_shipped(labels), labels, 0.02)
    assert (shown.count, shown.served, shown.wrong) == (5, 3, 1)
    assert [count for *_, count in shown.bins] == [3, 2]
    assert measured(np.full(6, 0.5), labels, None).log_loss == np.log(2)
    assert measured(np.empty(0), NONE, 0.5).count == 0


def test_points_that_are_not_trusted_keep_to_their_budget_on_these_labels_alone() -> None:
    labels = drawn(60, 1.0, 0.0)
    trusted = recalibrated(labels, POINTS, may_loosen=False)
    proven = recalibrated(labels, POINTS, may_loosen=False, proven=True)
    risks = held_out(labels)
    for (budget, point), (_, larger) in zip(proven.points, trusted.points, strict=True):
        assert point <= larger
        served = risks <= point
        assert (served & ~labels.right).sum() <= budget * served.sum()
    assert recalibrated(NONE, POINTS, may_loosen=False, proven=True).points == tuple(
        (budget, 0.0) for budget, _ in POINTS
    )
