"""Thompson sampling: draw each arm's quality from what is believed of it, take the best score."""

from __future__ import annotations

import random
from collections.abc import Mapping
from math import erf, exp, pi, sqrt
from typing import NamedTuple

from icl.arms import Arm

_STEPS = 24  # of the integral over the better of two arms
_REACH = 5.0  # standard deviations that it covers to either side


class Belief(NamedTuple):
    """The quality that an arm's answer may have: normal, with this mean and standard deviation."""

    mean: float
    spread: float


class Prices(NamedTuple):
    """What arms pay: the requested model `toll`, a small arm `price` times that."""

    toll: float
    price: float

    @property
    def bar(self) -> float:
        """The quality from which a small arm's score is at least the requested model's."""
        return 1.0 - self.toll + self.toll * self.price


def scores(beliefs: Mapping[Arm, Belief], prices: Prices) -> dict[Arm, float]:
    """Return the expected score of each small arm believed in, and the requested model's."""
    found = {Arm.REQUESTED: 1.0 - prices.toll}
    for arm, belief in beliefs.items():
        found[arm] = belief.mean - prices.toll * prices.price
    return found


def sample(beliefs: Mapping[Arm, Belief], prices: Prices, draw: random.Random) -> Arm:
    """Return the arm whose drawn quality scores best; the requested model's is 1 and not drawn."""
    best, most = Arm.REQUESTED, prices.bar
    for arm, belief in beliefs.items():
        quality = draw.gauss(belief.mean, belief.spread)
        if quality >= most:
            best, most = arm, quality
    return best


def chances(beliefs: Mapping[Arm, Belief], prices: Prices) -> dict[Arm, float]:
    """Return how probably `sample` returns each arm, for at most two small arms."""
    bar = prices.bar
    if not beliefs:
        return {Arm.REQUESTED: 1.0}
    if len(beliefs) == 1:
        ((arm, belief),) = beliefs.items()
        below = _below(bar, belief)
        return {Arm.REQUESTED: below, arm: 1.0 - below}
    (one, first), (other, second) = beliefs.items()
    neither = _below(bar, first) * _below(bar, second)
    better = min(_better(first, second, bar), 1.0 - neither)
    return {Arm.REQUESTED: neither, one: better, other: 1.0 - neither - better}


def _better(belief: Belief, rival: Belief, bar: float) -> float:
    """Return the probability that a draw is above both the bar and the rival's."""
    lowest = max(bar, belief.mean - _REACH * belief.spread)
    step = (belief.mean + _REACH * belief.spread - lowest) / _STEPS
    if step <= 0.0:
        return 0.0
    whole = 0.0
    for number in range(_STEPS):
        quality = lowest + (number + 0.5) * step
        whole += exp(-0.5 * ((quality - belief.mean) / belief.spread) ** 2) * _below(quality, rival)
    return whole * step / (belief.spread * sqrt(2.0 * pi))


def _below(quality: float, belief: Belief) -> float:
    return 0.5 * (1.0 + erf((quality - belief.mean) / (belief.spread * sqrt(2.0))))
