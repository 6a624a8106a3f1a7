"""Thresholds: the best one of a client, and everybody's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated.thresholds import aggregate_thresholds, best_threshold, judged, steady_threshold

PAIRS = st.lists(
    st.tuples(st.integers(-10, 10).map(lambda n: n / 10), st.integers(0, 1)),
    min_size=1,
    max_size=30,
)


def test_it_lies_halfway_between_what_it_lets_through_and_what_not() -> None:
    best = best_threshold(np.array([0.9, 0.8, 0.4, 0.2]), np.array([1, 1, 0, 0]))
    assert best is not None
    assert best.value == pytest.approx(0.6)
    assert (best.precision, best.recall, best.f_beta, best.false_hit_rate) == (1, 1, 1, 0)


def test_a_false_hit_costs_more_than_a_missed_pair() -> None:
    best = best_threshold(np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 0, 0, 1]))
    assert best is not None
    assert best.value == pytest.approx(0.85)


def test_pairs_of_equal_similarity_are_let_through_together() -> None:
    best = best_threshold(np.array([0.9, 0.9, 0.9]), np.array([1, 1, 0]))
    assert best is not None
    assert best.precision == pytest.approx(2 / 3)


def test_without_a_pair_of_label_1_there_is_none() -> None:
    assert best_threshold(np.array([0.5]), np.array([0])) is None


@given(PAIRS)
def test_no_threshold_has_a_higher_score(pairs: list[tuple[float, int]]) -> None:
    similarities = np.array([s for s, _ in pairs])
    labels = np.array([label for _, label in pairs])
    best = best_threshold(similarities, labels)
    if best is None:
        assert not labels.any()
        return
    assert 0 <= best.precision <= 1 and 0 <= best.false_hit_rate <= 1 and best.n == len(pairs)
    for value in np.linspace(-1.05, 1.05, 43):
        assert judged(value, similarities, labels).f_beta <= best.f_beta + 1e-9


def test_a_steady_threshold_varies_less_with_the_pairs_that_happen_to_be_there() -> None:
    chance = np.random.default_rng(5)
    best: list[float] = []
    steady: list[float] = []
    for _ in range(40):
        labels = np.repeat([1, 0], [6, 18])
        similarities = chance.normal(np.where(labels == 1, 0.8, 0.6), 0.1)
        for values, find in ((best, best_threshold), (steady, steady_threshold)):
            found = find(similarities, labels)
            assert found is not None
            values.append(found.value)
    assert np.std(steady) < np.std(best)


def test_a_steady_threshold_is_the_same_for_the_same_pairs_and_none_without_a_label_1() -> None:
    similarities, labels = np.array([0.9, 0.7, 0.6]), np.array([1, 1, 0])
    assert steady_threshold(similarities, labels) == steady_threshold(similarities, labels)
    assert steady_threshold(similarities, np.zeros(3, int)) is None


def test_clients_count_by_their_pairs() -> None:
    common = aggregate_thresholds([{"code": (0.9, 30)}, {"code": (0.6, 10), "": (0.7, 5)}])
    assert common == {"": pytest.approx(0.7), "code": pytest.approx(0.825)}


@pytest.mark.parametrize("odd", [(float("nan"), 10), (1.5, 10), (0.2, 0), (0.2, -3)])
def test_what_cannot_be_a_threshold_does_not_count(odd: tuple[float, int]) -> None:
    assert aggregate_thresholds([{"": (0.8, 10)}, {"": odd}]) == {"": pytest.approx(0.8)}
