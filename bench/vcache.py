"""Verified caching as the vCache paper describes it (arXiv 2502.03771), to compare ours with.

Written from the description of its rule; no code of its authors is used. Every stored question
keeps observations: how similar a query was whose nearest stored question it was, and whether its
answer would have been right. From these it is estimated how likely a similarity is to be right
*here*, how sure that is, and so with what probability to serve: the error rate stays below `delta`
as far as labels come. Whoever is not served is answered by the model, and a judge compares the two
answers: one more label.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DELTA = 0.01  # the error rate to stay below
LEAST = 6  # observations before anything is served, the two that each entry is seeded with included
DECIMALS = 3  # of an observed similarity
EPSILONS = tuple((n + 0.5) / 50 for n in range(50))  # how unsure the estimate may be
LEAST_SLOPE = 1e-6
# Variance of the threshold by the number of observations where these are perfectly parted, and the
# likelihood has no maximum: as far as the description gives the table, straight lines in between.
_PARTED_COUNTS = (6.0, 10.0, 15.0, 31.0, 48.0)
_PARTED_VARIANCES = (0.0354, 0.0194, 0.0093, 0.0046, 0.0046)
_PARTED_BEYOND = 0.0151  # above the last count
_FLAT_ENOUGH = 1e-4  # gradient at which fitting stops
_STEPS = 100


class Fit(NamedTuple):
    """P(right | similarity) = sigmoid(slope * (similarity - threshold))."""

    threshold: float
    slope: float
    variance: float  # of the threshold


@dataclass(slots=True)
class Observations:
    """What is known about serving one stored question's answer."""

    similarities: list[float] = field(default_factory=lambda: [0.0, 1.0])
    right: list[bool] = field(default_factory=lambda: [False, True])
    fit: Fit | None = None  # of these observations, once it was asked for

    def add(self, similarity: float, right: bool) -> None:
        """Note a label."""
        self.similarities.append(round(similarity, DECIMALS))
        self.right.append(right)
        self.fit = None

    def explore_probability(self, similarity: float, delta: float) -> float:
        """Return with what probability a query this near must not be served."""
        if len(self.right) < LEAST:
            return 1.0
        if self.fit is None:
            self.fit = fitted(self.similarities, self.right)
        return explore_probability(similarity, self.fit, delta)


def explore_probability(similarity: float, fit: Fit, delta: float) -> float:
    """Return the least probability of exploring that keeps the error below `delta`.

    For every `epsilon` the threshold lies below its upper confidence limit with probability
    1 - epsilon; so the answer is right with at least `alpha`, and a served share of
    delta / (1 - alpha) is safe.
    """
    best = 1.0
    for epsilon, z in zip(EPSILONS, _UPPER, strict=True):
        limit = min(1.0, max(0.0, fit.threshold + z * math.sqrt(fit.variance)))
        alpha = (1 - epsilon) * _sigmoid(fit.slope * (similarity - limit))
        best = min(best, 1 - delta / (1 - alpha))
    return max(0.0, best)


def fitted(similarities: list[float], right: list[bool]) -> Fit:
    """Return the logistic regression of `right` on the similarity, without a penalty."""
    s, y = np.array(similarities), np.array(right, float)
    b, slope = _most_likely(s, y)
    slope = max(slope, LEAST_SLOPE)
    threshold = min(1.0, max(0.0, -b / slope))
    if s[y == 0].max() < s[y == 1].min():
        return Fit(threshold, slope, _parted_variance(len(right)))
    design = np.stack([np.ones_like(s), s])
    p = _sigmoids(b + slope * s)
    information = (design * (p * (1 - p))) @ design.T
    gradient = np.array([-1 / slope, b / slope**2])  # of -b / slope
    variance = float(gradient @ np.linalg.pinv(information) @ gradient)
    return Fit(threshold, slope, max(0.0, variance))


def _parted_variance(count: int) -> float:
    if count > _PARTED_COUNTS[-1]:
        return _PARTED_BEYOND
    return float(np.interp(count, _PARTED_COUNTS, _PARTED_VARIANCES))


def _most_likely(s: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return intercept and slope by Newton's method; where there is no maximum, far up the hill."""
    design = np.stack([np.ones_like(s), s])
    weights = np.zeros(2)
    for _ in range(_STEPS):
        p = _sigmoids(weights @ design)
        gradient = design @ (y - p) / len(y)
        if np.abs(gradient).max() < _FLAT_ENOUGH:
            break
        curvature = (design * (p * (1 - p))) @ design.T / len(y) + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        here, length = _likelihood(weights, design, y), 1.0
        while length > 1e-6 and _likelihood(weights + length * step, design, y) < here:
            length /= 2
        weights = weights + length * step
    return float(weights[0]), float(weights[1])


def _likelihood(
    weights: npt.NDArray[np.float64],
    design: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
) -> float:
    said = weights @ design
    return float((y * said - np.logaddexp(0, said)).mean())


def _sigmoids(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    halves: npt.NDArray[np.float64] = np.tanh(x / 2)  # which overflows nowhere
    return (1 + halves) / 2


def _sigmoid(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2


_UPPER = tuple(NormalDist().inv_cdf(1 - epsilon) for epsilon in EPSILONS)


class Verified:
    """Decides query by query whether the nearest stored question's answer is served."""

    def __init__(self, delta: float, chance: random.Random) -> None:
        self._delta = delta
        self._chance = chance
        self._known: dict[int, Observations] = {}

    def serves(self, nearest: int, similarity: float) -> bool:
        """Whether to serve; if not, the model answers, and `learn` is told what a judge says."""
        known = self._known.get(nearest)
        if known is None:
            return False
        return self._chance.random() > known.explore_probability(similarity, self._delta)

    def learn(self, nearest: int, similarity: float, right: bool) -> None:
        """Note whether the stored answer would have been right."""
        self._known.setdefault(nearest, Observations()).add(similarity, right)
