"""Fit a score: line, trees and kernel over the features, then what they mean as a probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from bench.train.candidates import LEAST, Example
from store.decision.features import FEATURE_NAMES
from store.decision.score_model import Kernel, Line, Model, Trees, standardised

Floats = npt.NDArray[np.float64]

# Which way a feature may move the odds of being right; whatever is not here may go either way.
RISING = (
    "similarity margin words_shared content_shared query_covered stored_covered pairs_shared"
    " grams_shared same_first same_last overlap numbers_equal numbers_in_order names_shared"
    " asked_equal language_equal"
).split()
FALLING = (
    "left_query left_stored left_least left_most numbers_left_query numbers_left_stored"
    " names_left_query names_left_stored calendar_left asked_conflict asked_one_sided order_turned"
    " order_swapped substituted polarity_opposed negation_differs negation_count quotes_left"
    " code_left letters_differ"
).split()
DIRECTIONS = [(name in RISING) - (name in FALLING) for name in FEATURE_NAMES]
BUDGETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3)

MOST_DOUBT = 0.5  # P(wrong) of an answer that is served for any budget
STRENGTH = 0.03  # of the line's fit: scikit-learn's C
WEIGHT = 1.5  # of the kernel's margins, which are smaller than log-odds


def fit(examples: Sequence[Example]) -> Model:
    """Fit a model to examples of both kinds; the scaling is still to be found."""
    seen = np.array([each.features for each in examples])
    right = np.array([each.right for each in examples])
    mean, scale = seen.mean(axis=0), seen.std(axis=0)
    scale[scale == 0] = 1.0
    line = LogisticRegression(C=STRENGTH, max_iter=2000)
    line.fit((seen - mean) / scale, right)
    trees = HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.05, max_leaf_nodes=5, min_samples_leaf=15,
        l2_regularization=1.0, monotonic_cst=DIRECTIONS, random_state=0,
    )  # fmt: skip
    trees.fit(seen, right)
    slopes = line.coef_[0] / scale
    bias = float(line.intercept_[0] - slopes @ mean)
    return Model(Line(slopes, bias), _flat(trees), _kernel(seen, right, mean, scale))


def _kernel(seen: Floats, right: npt.NDArray[np.bool_], mean: Floats, scale: Floats) -> Kernel:
    here = standardised(seen, mean, scale)
    gamma = float(1 / (here.shape[1] * here.var()))
    machine = SVC(C=1.0, gamma=gamma).fit(here, right)
    weights = WEIGHT * machine.dual_coef_[0]
    bias = float(WEIGHT * machine.intercept_[0])
    return Kernel(mean, scale, machine.support_vectors_, weights, bias, gamma)


def _flat(model: Any) -> Trees:
    """Return scikit-learn's trees as one table of nodes; a leaf leads to itself."""
    features: list[int] = []
    lefts: list[int] = []
    rights: list[int] = []
    roots: list[int] = []
    thresholds: list[float] = []
    values: list[float] = []
    for (predictor,) in model._predictors:
        start = len(features)
        roots.append(start)
        for number, node in enumerate(predictor.nodes):
            here = start + number
            leaf = bool(node["is_leaf"])
            features.append(0 if leaf else int(node["feature_idx"]))
            thresholds.append(0.0 if leaf else float(node["num_threshold"]))
            lefts.append(here if leaf else start + int(node["left"]))
            rights.append(here if leaf else start + int(node["right"]))
            values.append(float(node["value"]) if leaf else 0.0)
    return Trees(
        base=float(np.ravel(model._baseline_prediction)[0]),
        roots=np.array(roots, np.int32),
        features=np.array(features, np.int32),
        thresholds=np.array(thresholds),
        lefts=np.array(lefts, np.int32),
        rights=np.array(rights, np.int32),
        values=np.array(values),
    )


def log_odds_of(model: Model, examples: Sequence[Example]) -> Floats:
    """Return the model's raw log-odds of being right, shape (n,)."""
    if not examples:
        return np.empty(0)
    return model.log_odds(np.array([each.features for each in examples]))


def platt(log_odds: Floats, right: Floats) -> tuple[float, float]:
    """Return slope and bias that make log-odds honest (Platt scaling); the slope is positive."""
    model = LogisticRegression(C=1e3, max_iter=1000).fit(log_odds[:, None], right)
    return max(float(model.coef_[0, 0]), 1e-3), float(model.intercept_[0])


def served(examples: Sequence[Example], wrong: Floats) -> list[tuple[float, bool]]:
    """Return (P(wrong), right) of what each question that is judged by would get, safest first."""
    best: dict[str, tuple[float, bool]] = {}
    for each, risk in zip(examples, wrong, strict=True):
        if each.judged and not each.vetoed and each.similarity >= LEAST:
            earlier = best.get(each.query)
            if earlier is None or risk < earlier[0]:
                best[each.query] = (float(risk), each.right)
    return sorted(best.values())


def points_of(answers: Sequence[tuple[float, bool]]) -> tuple[tuple[float, float], ...]:
    """Return (budget, P(wrong) that may be served) pairs: the largest that kept to the budget.

    Nobody is served what is itself more likely wrong than right, however well the others keep to
    the budget. Half a wrong answer more than was seen is counted (the rate's mean under Jeffreys'
    prior), so that few answers show little.
    """
    points = []
    for budget in BUDGETS:
        wrong, point = 0, 0.0
        for count, (risk, good) in enumerate(answers, start=1):
            if risk > MOST_DOUBT:
                break
            wrong += not good
            if (wrong + 0.5) / (count + 1) <= budget:
                point = risk
        points.append((budget, point))
    return tuple(points)


def reliability(wrong: Floats, right: Floats, bins: int = 10) -> list[tuple[float, float, int]]:
    """Return (mean P(wrong), share wrong, count) for equal shares of P(wrong)."""
    rows = []
    for low in np.arange(bins) / bins:
        inside = (wrong >= low) & (wrong < low + 1 / bins + (low >= 1 - 1 / bins))
        if inside.any():
            rows.append(
                (float(wrong[inside].mean()), float(1 - right[inside].mean()), int(inside.sum()))
            )
    return rows


def expected_error(rows: Sequence[tuple[float, float, int]]) -> float:
    """Return the mean distance between what was predicted and what came, over all answers."""
    total = sum(count for *_, count in rows)
    return math.fsum(abs(said - came) * count for said, came, count in rows) / max(1, total)
