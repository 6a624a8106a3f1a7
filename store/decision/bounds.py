"""Bounds on an error rate that hold at every moment at once, whatever the rate does meanwhile.

A `Tally` takes verdicts one by one. Verdict i is wrong (V=1) with probability theta_i given all
that came before, and has a weight u_i > 0 that is known before the verdict: the inverse of the
probability with which it was sampled. Bounded is the *weighted mean of theta so far*,

    A_t = sum(u_i theta_i) / sum(u_i),   i <= t,

and nothing is assumed of theta: it may drift, jump, or depend on the past.

For any fixed l > 0, E[1 + l u V] = 1 + l u theta <= exp(l u theta), so that

    prod(1 + l u_i V_i) * exp(-l * sum(u_i theta_i))

is a nonnegative supermartingale that begins at 1; with -l in the place of l, l u <= 1, so is its
mirror image. A mixture over several l is one too, and by Ville's inequality it ever reaches 1/a
with probability at most a. What A_t would have to be for the mixture to reach it is excluded.
This is betting against a mean (Waudby-Smith & Ramdas, "Estimating means of bounded random
variables by betting", JRSS-B 2024) in the form for means that change, each bet's factor bounded
by an exponential as in their section on empirical-Bernstein sequences, with importance weights
(Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro, "Anytime-valid off-policy inference for
contextual bandits", 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, isfinite, log, log1p
from typing import Self

# Bets that the rate is higher than said: each is right for a rate of about (1 + l) times as much.
RAISES = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# Bets that it is lower. Most of the stake is on the last, which wins fastest when nothing is wrong.
CUTS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
_RAISE_STAKE = log(1 / len(RAISES))
_CUT_STAKES = (log(0.1),) * 6 + (log(0.4),)
_LARGEST_CUT = 0.95  # of a bet on one verdict
_HALVINGS = 14  # of a bound's interval, when it is searched: to 0.00006, on the safe side
_SECTIONS = 24  # of an interval in which the least evidence is searched
_GOLDEN = (5**0.5 - 1) / 2


class Tally:
    """A sequence of verdicts, as far as its bounds need it: O(1) in time and room for each."""

    __slots__ = ("_cuts", "_raises", "count", "weight", "wrong")

    def __init__(self) -> None:
        self.count = 0  # verdicts
        self.weight = 0.0  # of all of them
        self.wrong = 0.0  # weight of the wrong ones
        self._raises = [0.0] * len(RAISES)
        self._cuts = [0.0] * len(CUTS)

    def add(self, wrong: bool, weight: float = 1.0) -> None:
        """Take a verdict; `weight` must not depend on it.

        A weight above 1 costs the upper bound some of its sharpness and none of its validity:
        a bet that it makes too high is lowered, and what is lost thereby counts as wrong.
        """
        self.count += 1
        self.weight += weight
        if weight > 1.0:
            for place, cut in enumerate(CUTS):
                self._cuts[place] -= max(0.0, cut * weight - _LARGEST_CUT)
        if not wrong:
            return
        self.wrong += weight
        for place, raised in enumerate(RAISES):
            self._raises[place] += log1p(raised * weight)
        for place, cut in enumerate(CUTS):
            self._cuts[place] += log1p(-min(cut * weight, _LARGEST_CUT))

    @property
    def estimate(self) -> float | None:
        """The weighted share of wrong verdicts; None without any."""
        return self.wrong / self.weight if self.weight else None

    def evidence_above(self, mean: float) -> float:
        """Return the log capital won by betting that A is above `mean`."""
        total = mean * self.weight
        return _log_sum(
            [
                _RAISE_STAKE + won - bet * total
                for bet, won in zip(RAISES, self._raises, strict=True)
            ]
        )

    def evidence_below(self, mean: float) -> float:
        """Return the log capital won by betting that A is below `mean`."""
        total = mean * self.weight
        return _log_sum(
            [
                stake + won + bet * total
                for stake, bet, won in zip(_CUT_STAKES, CUTS, self._cuts, strict=True)
            ]
        )

    def lower(self, needed: float) -> float:
        """Return the largest value known to be below A; `needed` is log(1/a) of this bound."""
        return _last(lambda mean: self.evidence_above(mean) >= needed)

    def upper(self, needed: float) -> float:
        """Return the smallest value known to be above A; `needed` is log(1/a) of this bound."""
        return 1.0 - _last(lambda rest: self.evidence_below(1.0 - rest) >= needed)

    def as_data(self) -> list[float]:
        """Return what `from_data` reads, as JSON holds it; [] for an empty tally."""
        if not self.count:
            return []
        return [self.count, self.weight, self.wrong, *self._raises, *self._cuts]

    @classmethod
    def from_data(cls, data: Sequence[float]) -> Self:
        """Return a tally as it was; raise ValueError for what none wrote."""
        tally = cls()
        if not data:
            return tally
        if len(data) != 3 + len(RAISES) + len(CUTS) or not all(map(isfinite, data)):
            raise ValueError("not a tally")
        tally.count, tally.weight, tally.wrong = int(data[0]), data[1], data[2]
        tally._raises = list(data[3 : 3 + len(RAISES)])
        tally._cuts = list(data[3 + len(RAISES) :])
        return tally


# What a judge's verdicts say of the errors behind them. A verdict is wrong at rate
# v = e (1 - miss) + (1 - e) f for an error rate e and a false-alarm rate f, which controls measure:
# hits that are right by construction. Capital won from audits at the v of some (e, f), times what
# was won from controls at the same f, is again a supermartingale if (e, f) is the truth. So an e is
# excluded when that product is large *whatever f is*: when the least of it over f is. Both logs are
# convex in f, as log-sum-exps of linear functions.


def errs_more(audits: Tally, controls: Tally, error: float, needed: float) -> bool:
    """Whether the error rate is known to be above `error`; `needed` is log(1/a) of this bound.

    v is least, and so the evidence most, where the judge misses nothing: so it does here.
    """
    return _everywhere(
        lambda f: audits.evidence_above(error + (1.0 - error) * f) + controls.evidence_below(f),
        needed,
        controls.estimate or 0.0,
    )


def errs_less(audits: Tally, controls: Tally, error: float, misses: float, needed: float) -> bool:
    """Whether the error rate is known to be below `error`; `needed` is log(1/a) of this bound.

    `misses` is the largest share of wrong answers that the judge is assumed to let pass.
    """
    return _everywhere(
        lambda f: (
            audits.evidence_below(error * (1.0 - misses) + (1.0 - error) * f)
            + controls.evidence_above(f)
        ),
        needed,
        controls.estimate or 0.0,
    )


def least_error(audits: Tally, controls: Tally, needed: float) -> float:
    """Return the largest error rate known to be below the truth; `needed` is log(1/a)."""
    return _last(lambda error: errs_more(audits, controls, error, needed))


def most_error(audits: Tally, controls: Tally, misses: float, needed: float) -> float:
    """Return the smallest error rate known to be above the truth; `needed` is log(1/a)."""
    return 1.0 - _last(lambda right: errs_less(audits, controls, 1.0 - right, misses, needed))


def corrected(wrong_verdicts: float, false_alarms: float) -> float:
    """Return the error rate that these rates mean for a judge that misses nothing."""
    if false_alarms >= 1.0:
        return 0.0
    return max(0.0, (wrong_verdicts - false_alarms) / (1.0 - false_alarms))


def _everywhere(convex: Callable[[float], float], needed: float, guess: float) -> bool:
    """Whether a convex function is at least `needed` on [0, 1]; `guess` is near its least."""
    if convex(guess) < needed:
        return False
    low, high = 0.0, 1.0
    a, b = high - _GOLDEN, low + _GOLDEN
    at_a, at_b = convex(a), convex(b)
    for _ in range(_SECTIONS):
        if min(at_a, at_b) < needed:
            return False
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - _GOLDEN * (high - low)
            at_a = convex(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + _GOLDEN * (high - low)
            at_b = convex(b)
    return min(at_a, at_b, convex(low), convex(high)) >= needed


def _last(holds: Callable[[float], bool]) -> float:
    """Return the last point of [0, 1] up to which it holds, from below; 0.0 if nowhere."""
    if not holds(0.0):
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _log_sum(terms: Sequence[float]) -> float:
    most = max(terms)
    return most + log(sum(exp(term - most) for term in terms))
