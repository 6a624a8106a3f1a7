"""F0.5 by learned thresholds, and its intervals."""

from __future__ import annotations

import numpy as np
import pytest

from bench.federated.measured import counted, decide, gains
from bench.federated.rows import PairSet
from federated.pairs import LabelledPair

NAME = "pairs_nqopen_x.jsonl"


def rows(labels: list[int], folds: list[int]) -> PairSet:
    pairs = [LabelledPair(f"q{i}", f"s{i}", label, NAME) for i, label in enumerate(labels)]
    return PairSet(pairs, np.arange(len(labels)), np.array(folds))


def test_a_threshold_is_learned_on_the_other_folds_alone() -> None:
    known = rows([1, 0, 1, 0], [0, 0, 1, 1])
    similarities = np.array([0.9, 0.1, 0.4, 0.3], np.float32)
    let, thresholds = decide(known, 0, similarities)
    assert 0.1 < thresholds[NAME] <= 0.4
    assert let[:2].tolist() == [True, False]
    changed = similarities.copy()
    changed[:2] = (0.2, 0.8)  # what is judged has no say
    assert decide(known, 0, changed)[1] == thresholds


def test_rows_that_were_not_trained_on_tell_alone_if_there_are_enough() -> None:
    labels = [1] * 50 + [0] * 50
    known = rows(labels, [0] * 10 + [1] * 90)
    similarities = np.array([0.9] * 50 + [0.1] * 50, np.float32)
    similarities[30:50] = 0.5  # of the right ones that were not trained on
    trained = np.arange(100) < 30
    assert decide(known, 0, similarities, trained)[1][NAME] == pytest.approx(0.3)
    trained[30] = True  # now nineteen
    similarities[50:60] = 0.6
    few = decide(known, 0, similarities, trained)[1][NAME]
    assert few == decide(known, 0, similarities)[1][NAME]


def test_without_a_right_row_to_learn_from_nothing_is_let_through() -> None:
    let, _ = decide(rows([1, 0], [0, 1]), 0, np.array([0.9, 0.1], np.float32))
    assert not let[0]


def test_counts_of_a_file() -> None:
    known = rows([1, 1, 0, 0], [0, 0, 1, 1])
    made = counted(known, NAME, np.array([True, False, True, False]), [0.5, 0.6])
    assert (made.precision, made.recall, made.false_hit_rate) == (0.5, 0.5, 0.5)
    assert made.f05 == pytest.approx(0.5)
    none = counted(known, NAME, np.zeros(4, bool), [2.0, 2.0])
    assert (none.f05, none.precision, none.recall) == (0.0, 1.0, 0.0)


def test_a_clear_gain_has_an_interval_above_zero_and_none_has_none() -> None:
    labels = [1, 0] * 60
    known = rows(labels, [i % 5 for i in range(120)])
    perfect = np.array(labels) == 1
    poor = np.ones(120, bool)
    made = gains(known, perfect, poor, seed=1, resamples=300)
    assert made[NAME].gain == pytest.approx(1 - 1.25 * 60 / (0.25 * 60 + 120))
    assert 0 < made[NAME].low < made[NAME].gain < made[NAME].high
    assert made["mean"] == made[NAME]
    same = gains(known, poor, poor, seed=1, resamples=300)[NAME]
    assert (same.gain, same.low, same.high) == (0, 0, 0)


def test_rows_that_share_a_text_are_drawn_together() -> None:
    labels = [1, 0] * 20
    apart = rows(labels, [0] * 40)
    together = PairSet(apart.pairs, np.repeat(np.arange(4), 10), apart.folds)
    ours = np.array(labels) == 1
    ours[:10] = False  # one group of four is lost whole
    base = np.ones(40, bool)
    narrow, wide = (gains(known, ours, base, 1, 500)[NAME] for known in (apart, together))
    assert wide.high - wide.low > narrow.high - narrow.low
