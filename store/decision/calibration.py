"""The score's scaling and decision points, fitted to what was labelled on one's own traffic.

The score's order stays; what is fitted is a line over its log-odds (Platt 1999), and from that how
large a P(wrong) each error budget lets pass. Pure functions over values.

Labels are no fair sample of what is asked. Audits and near-misses are drawn at random, at rates
that know nothing of the answer, so that among pairs of the same score the share of wrong ones is
that of the traffic. Feedback is whatever somebody chose to complain about: it has an intercept of
its own in the fit, so it tells which pairs are wrong (the slope) and never how many (the bias), and
it is in no measure and no decision point.

A decision point moves away from the shipped one, seen on the scale of the score, only when random
samples say so at 95 %: to a tighter one when what it serves is wrong more often than the budget
allows, to a looser one when what it would serve *in addition* is itself within the budget. Samples
beyond a point are drawn at another rate than those within; taken alone, they need no weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from store.decision.score import Points, Recalibration
from store.decision.score_model import Floats, wrong_of

LEAST_SERVED = 10  # answers that a point rests on: the safest two are right by chance too often
ALPHA = 0.05  # chance that a point is moved although it should not be
SHIPPED = (1.0, 0.0)  # the line that changes nothing
FLATTEST = 0.05  # slope; labels that turn the score's order round do not turn the decision round
STEEPEST = 20.0
_PRECISION = np.array([4.0, 1.0, 0.1])  # of the priors of slope, bias, feedback's intercept
_STEPS = 100
_BINS = 10
_MOST_ODDS = 30.0
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labelled pairs as the score sees them; every array has shape (n,)."""

    log_odds: Floats  # of being right, as shipped
    right: Flags
    random: Flags  # drawn at random: an audit or a near-miss, no feedback
    fold: npt.NDArray[np.int64]  # pairs that share a text share a fold

    def enough(self, least: int) -> bool:
        """Whether there are at least so many random samples of either kind."""
        right = int((self.right & self.random).sum())
        return min(right, int(self.random.sum()) - right) >= least

    def kept(self, which: Flags) -> Labels:
        """Return some of them."""
        return Labels(self.log_odds[which], self.right[which], self.random[which], self.fold[which])


@dataclass(frozen=True, slots=True)
class Measure:
    """How good probabilities are on random samples, and what a decision point makes of them."""

    count: int
    log_loss: float  # mean, in nats
    error: float  # expected calibration error: mean distance of what was said from what came
    served: int
    wrong: int  # of these
    bins: tuple[tuple[float, float, int], ...]  # mean P(wrong), share wrong, count


def recalibrated(
    labels: Labels, shipped: Points, *, may_loosen: bool, proven: bool = False
) -> Recalibration:
    """Return line and decision points for these labels; without any, what is shipped.

    With `proven` the shipped points are not taken on trust, as with an encoder that the score was
    not fitted to: a point then also keeps to its budget on these labels alone.
    """
    line = scaling_of(labels)
    risks = held_out(labels)
    points = [
        (budget, _point_of(labels, risks, line, budget, shipped, may_loosen))
        for budget, _ in shipped
    ]
    if proven:
        random = labels.random
        points = [
            (budget, min(point, _kept_to(risks[random], ~labels.right[random], budget)))
            for budget, point in points
        ]
    ceiling, rising = 1.0, []
    for budget, point in reversed(points):  # a smaller budget never lets more pass than a larger
        ceiling = min(ceiling, point)
        rising.append((budget, ceiling))
    return Recalibration(line, tuple(reversed(rising)))


def scaling_of(labels: Labels) -> tuple[float, float]:
    """Return slope (above 0) and bias over the shipped log-odds, ridged towards SHIPPED.

    Newton's method on a strictly convex loss: the result is finite whatever the labels are.
    """
    odds = np.clip(labels.log_odds, -_MOST_ODDS, _MOST_ODDS)
    fed = (~labels.random).astype(float)
    seen = np.column_stack([odds, np.ones(len(odds)), fed])
    slope, bias, _ = _newton(seen, labels.right, np.array([1.0, 0.0, 0.0]), _PRECISION)
    if FLATTEST <= slope <= STEEPEST:
        return slope, bias
    slope = min(max(slope, FLATTEST), STEEPEST)
    fixed = _PRECISION * np.array([1e9, 1.0, 1.0])  # the same with the slope where it may be
    _, bias, _ = _newton(seen, labels.right, np.array([slope, 0.0, 0.0]), fixed)
    return slope, bias


def _newton(seen: Floats, right: Flags, mean: Floats, precision: Floats) -> tuple[float, ...]:
    def loss(at: Floats) -> float:
        margins = np.where(right, 1.0, -1.0) * (seen @ at)
        return float(np.logaddexp(0.0, -margins).sum() + 0.5 * (precision * (at - mean) ** 2).sum())

    at, now = mean, loss(mean)
    for _ in range(_STEPS):
        said = 1 / (1 + np.exp(-np.clip(seen @ at, -500, 500)))
        slope = seen.T @ (said - right) + precision * (at - mean)
        curve = (seen * (said * (1 - said))[:, None]).T @ seen + np.diag(precision)
        step, size = np.linalg.solve(curve, slope), 1.0
        while (after := loss(at - size * step)) > now and size > 1e-6:
            size /= 2
        if after > now or now - after < 1e-12 * (1 + now):
            break
        at, now = at - size * step, after
    return tuple(float(each) for each in at)


def held_out(labels: Labels) -> Floats:
    """Return P(wrong) of each pair from a line that was fitted without its fold."""
    risks = np.empty(len(labels.log_odds))
    for fold in np.unique(labels.fold):
        there = labels.fold == fold
        risks[there] = wrong_of(labels.log_odds[there], scaling_of(labels.kept(~there)))
    return risks


def as_shipped(labels: Labels) -> Floats:
    """Return P(wrong) of each pair, shape (n,), as the shipped score has it."""
    return wrong_of(labels.log_odds, SHIPPED)


def measured(risks: Floats, labels: Labels, point: float | None) -> Measure:
    """Return how good P(wrong), shape (n,), is on the random samples; `point` None serves all."""
    risks, wrong = risks[labels.random], ~labels.right[labels.random]
    said = np.clip(np.where(wrong, risks, 1 - risks), 1e-12, 1.0)
    bins = tuple(_bins(risks, wrong))
    off = math.fsum(abs(mean - came) * count for mean, came, count in bins)
    served = risks <= (1.0 if point is None else point)
    return Measure(
        count=len(risks),
        log_loss=float(-np.log(said).mean()) if len(risks) else 0.0,
        error=off / max(1, len(risks)),
        served=int(served.sum()),
        wrong=int((served & wrong).sum()),
        bins=bins,
    )


def _bins(risks: Floats, wrong: Flags) -> Iterator[tuple[float, float, int]]:
    place = np.minimum((risks * _BINS).astype(int), _BINS - 1)
    for number in range(_BINS):
        inside = place == number
        if inside.any():
            yield float(risks[inside].mean()), float(wrong[inside].mean()), int(inside.sum())


def _point_of(
    labels: Labels,
    risks: Floats,
    line: tuple[float, float],
    budget: float,
    shipped: Points,
    may_loosen: bool,
) -> float:
    own = next(point for known, point in shipped if known == budget)
    through = _through(own, line)
    odds, wrong = labels.log_odds, ~labels.right
    inside = labels.random & (odds >= _odds_at(own))
    if _rarely(int((wrong & inside).sum()), int(inside.sum()), budget, more=True) <= ALPHA:
        return min(through, _kept_to(risks[labels.random], wrong[labels.random], budget))
    looser = sorted({point for _, point in shipped if point > own})
    if not may_loosen or not looser:
        return through
    proven = [own]
    for point in looser:  # the error is shared among all that are tried
        band = labels.random & ~inside & (odds >= _odds_at(point))
        count = int(band.sum())
        chance = _rarely(int((wrong & band).sum()), count, budget, more=False)
        if count and chance <= ALPHA / len(looser):
            proven.append(point)
    kept_to = _kept_to(risks[labels.random], wrong[labels.random], budget)
    return max(through, min(_through(proven[-1], line), kept_to))


def _odds_at(point: float) -> float:
    """Return the least log-odds of being right that a P(wrong) of at most `point` lets pass."""
    if point <= 0.0:
        return math.inf
    return -math.inf if point >= 1.0 else math.log((1 - point) / point)


def _through(point: float, line: tuple[float, float]) -> float:
    """Return the point that lets the same pairs pass once the line is applied."""
    if not 0.0 < point < 1.0:
        return point
    return float(wrong_of(np.array([_odds_at(point)]), line)[0])


def _kept_to(risks: Floats, wrong: Flags, budget: float) -> float:
    """Return the largest P(wrong) up to which the share of wrong ones keeps to the budget.

    Half a wrong one more than was seen is counted (the mean under Jeffreys' prior). 0.0: none.
    """
    order = np.argsort(risks, kind="stable")
    count = np.arange(1, len(order) + 1)
    fits = (np.cumsum(wrong[order]) + 0.5) / (count + 1) <= budget
    fits &= count >= LEAST_SERVED
    last = np.append(risks[order][1:] > risks[order][:-1], True)  # equal risks pass together
    kept = np.flatnonzero(fits & last[: len(order)])
    return float(risks[order][kept[-1]]) if len(kept) else 0.0


def _rarely(seen: int, count: int, rate: float, *, more: bool) -> float:
    """Return how likely so many (or more, or fewer) of `count` are, at this rate (binomial)."""
    if more and seen == 0:
        return 1.0
    chosen = range(seen, count + 1) if more else range(seen + 1)
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(rate) + (count - k) * math.log1p(-rate)
        for k in chosen
    ]  # fmt: skip
    return min(1.0, math.fsum(math.exp(each) for each in logs))
