"""Fitting a score: it learns what differs, its points keep to budgets, its words are honest."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bench.train.candidates import Example, folds_of
from bench.train.fit import expected_error, fit, log_odds_of, platt, points_of, reliability, served
from store.decision.features import FEATURE_NAMES

WIDTH = len(FEATURE_NAMES)
ANSWERS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60).map(sorted)


def example(query: str, similarity: float, right: bool, vetoed: bool = False) -> Example:
    seen = (similarity, *[0.0] * (WIDTH - 1))
    return Example(query, f"{query}?", similarity, seen, right, vetoed)


def examples(count: int) -> list[Example]:
    order = random.Random(3)
    rows = []
    for number in range(count):
        right = number % 2 == 0
        rows.append(example(f"q{number}", order.gauss(0.9 if right else 0.7, 0.05), right))
    return rows


def test_what_tells_right_from_wrong_is_learnt() -> None:
    rows = examples(400)
    odds = log_odds_of(fit(rows), rows)
    right = np.array([row.right for row in rows])
    assert odds[right].mean() > 1 > -1 > odds[~right].mean()


def test_no_examples_have_no_odds() -> None:
    assert log_odds_of(fit(examples(60)), []).shape == (0,)


def test_scaling_makes_boastful_odds_modest() -> None:
    order = np.random.default_rng(5)
    right = order.random(2000) < 0.7
    slope, bias = platt(np.where(right, 1.0, 0.9), right.astype(float))
    assert slope > 0
    boast, _ = platt(np.full(2000, 9.0) + order.normal(0, 0.1, 2000), right.astype(float))
    assert boast < 1


@given(ANSWERS)
def test_points_rise_with_the_budget_and_keep_to_it(answers: list[tuple[float, bool]]) -> None:
    points = points_of(answers)
    assert [point for _, point in points] == sorted(point for _, point in points)
    for budget, point in points:
        kept = [good for risk, good in answers if risk <= point]
        if point > 0 and len({risk for risk, _ in answers}) == len(answers):
            assert (len(kept) - sum(kept) + 0.5) / (len(kept) + 1) <= budget


def test_no_budget_serves_what_is_more_likely_wrong_than_right() -> None:
    answers = [(n / 100, True) for n in range(100)]
    assert {point for budget, point in points_of(answers) if budget >= 0.02} == {0.5}


def test_a_question_is_served_its_least_doubtful_candidate_that_may_be() -> None:
    rows = [
        example("a", 0.9, False),
        example("a", 0.8, True),
        example("b", 0.9, True, vetoed=True),
        example("c", 0.5, True),
    ]
    assert served(rows, np.array([0.4, 0.3, 0.1, 0.1])) == [(0.3, True)]


def test_honest_words_have_no_error_and_boasts_have() -> None:
    right = np.array([1.0] * 90 + [0.0] * 10)
    assert expected_error(reliability(np.full(100, 0.1), right)) < 1e-9
    assert expected_error(reliability(np.full(100, 0.6), right)) > 0.4


def test_connected_texts_are_in_one_fold() -> None:
    rows = [{"q1": f"a{n}", "q2": f"b{n}"} for n in range(20)] + [{"q1": "a0", "q2": "b7"}]
    folds = folds_of({"ours": rows}, 5)
    assert all(folds[row["q1"]] == folds[row["q2"]] for row in rows)
    assert set(folds.values()) == set(range(5))
