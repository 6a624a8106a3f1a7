"""The quality floor: whether a small arm may answer a category's requests, judged by its record.

Two looks at the same judged answers:

- A mean over the last `memory` of them, weighted by 1 / probability of the audit (capped), with
  the uncertainty of a Beta posterior over their effective number. It opens an arm that is at the
  floor with probability 0.8, and shuts one that is with less than 0.3.
- A bet against the arm, for sudden falls: wealth * (1 + trust * (floor - quality)), never below 1.
  While the mean quality is at or above the floor the stakes can't grow on average (an e-detector,
  as in Shin, Ramdas and Rinaldo 2022), so wealth RUIN is rare; an arm that fails every time is
  shut after about seven audits at a floor of 0.6, after five at 0.85. The same bet for an arm
  that is not trusted notices a sudden rise, and lets go of the record of its bad days.

After a fall the record starts anew: an arm returns by what it did since, never by what it was.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from math import erf, isfinite, log, sqrt
from typing import Any, NamedTuple

RUIN = 20.0  # wealth of the bet against an arm that shuts it
_RISE = 40.0  # wealth of the bet for an arm that renews its record; mistakes cost more this way
_ALARM = sqrt(RUIN)  # wealth after which a few bad answers are enough
_MOST_WEIGHT = 3.0  # of one audit: rare ones must not outshout the rest
_LEAST_EVIDENCE = 6.0  # effective observations
_VOUCHED_EVIDENCE = 3.0  # where the arm holds the floor of another category
_OPENS, _REOPENS = 0.8, 0.9  # probability of being at the floor; stricter after a fall
_SHUTS = 0.3  # the same; below _OPENS, so that chance alone seldom shuts what it opened
_RECENT = 32  # observations kept to bet anew when the floor is changed
_RENEWED = 12  # latest observations that make a new record after a rise
_OLDEST = 25 * 3600.0  # seconds; a verdict is given within a day
_NINETY = 1.645  # standard deviations to either side that hold 90 %


class State(StrEnum):
    """How far a small arm is trusted with a category."""

    TRIAL = "trial"  # too little evidence
    OPEN = "open"
    BACK = "back"  # fell under the floor, and has not shown since that it is above


class Turn(StrEnum):
    """A sudden change of an arm, after which what was learnt of it is worth little."""

    FELL = "fell"
    ROSE = "rose"


class Estimate(NamedTuple):
    """Mean judged quality, the ends of its 90 % interval, and the effective observations."""

    mean: float
    lower: float
    upper: float
    observations: float


class Guard:
    """The record of one small arm in one category."""

    def __init__(self, *, memory: float) -> None:
        self._keep = 1.0 - 1.0 / memory
        self._floor: float | None = None  # not known before a request came
        self._weight = self._squares = self._good = 0.0
        self._against = self._for = 1.0  # wealth of the two bets
        self._recent = deque[tuple[float, float]](maxlen=_RECENT)
        self._latest = self._fell = 0.0  # Unix seconds
        self.state = State.TRIAL

    @property
    def floor(self) -> float | None:
        """What it is held to; None before a request came."""
        return self._floor

    @property
    def observations(self) -> float:
        """How many observations of full weight the record is worth."""
        if self._squares == 0.0:
            return 0.0
        return min(self._weight, self._weight * self._weight / self._squares)

    @property
    def doubt(self) -> float:
        """How far the bet against the arm has come, [0, 1]; 1 shuts it."""
        return min(1.0, log(self._against) / log(RUIN))

    def estimate(self) -> Estimate:
        """Return the mean quality and how sure it is."""
        mean, deviation, observations = self._belief()
        reach = _NINETY * deviation
        return Estimate(mean, max(0.0, mean - reach), min(1.0, mean + reach), observations)

    def chance(self, floor: float) -> float:
        """Return the probability that the mean quality reaches the floor."""
        mean, deviation, _ = self._belief()
        return 0.5 * (1.0 + erf((mean - floor) / (deviation * sqrt(2.0))))

    def hold_to(self, floor: float) -> None:
        """Judge by this floor from now on, what is known already too."""
        if floor == self._floor:
            return
        self._floor = floor
        self._against = self._for = 1.0
        for quality, trust in self._recent:
            self._bet(quality, trust, floor)
        self._judge(floor)

    def learn(
        self, quality: float, weight: float, at: float, *, vouched: bool = False
    ) -> Turn | None:
        """Take up a judged answer; return the turn that the arm took by it, if any.

        `vouched`: the arm holds the floor of another category, so a first trial may be shorter.

        An answer given before the last fall says nothing of what the arm is worth since.
        """
        if at < self._latest - _OLDEST:  # the clock was ahead: what it said is not waited for
            self._latest, self._fell = at, min(self._fell, at)
        if at < self._fell:
            return None
        self._latest = max(self._latest, at)
        counted, trust = min(weight, _MOST_WEIGHT), min(weight, 1.0)
        self._add(quality, counted)
        self._recent.append((quality, trust))
        if self._floor is None:
            return None
        self._bet(quality, trust, self._floor)
        rose = self.state is not State.OPEN and self._for >= _RISE
        if rose:
            self._renew()
        return self._judge(self._floor, vouched) or (Turn.ROSE if rose else None)

    def alarm(self) -> None:
        """Doubt the arm: it fell elsewhere, so the model itself may have changed."""
        self._against = max(self._against, _ALARM)

    def as_data(self) -> dict[str, Any]:
        """Return the record for `restore`."""
        sums = [self._weight, self._squares, self._good, self._latest, self._fell]
        return {
            "state": self.state.value,
            "floor": self._floor,
            "sums": sums,
            "bets": [self._against, self._for],
            "recent": [[round(quality, 4), round(trust, 4)] for quality, trust in self._recent],
        }

    def restore(self, data: dict[str, Any]) -> None:
        """Take up what `as_data` returned. Raises ValueError, KeyError or TypeError for others."""
        sums = [float(value) for value in data["sums"]]
        against, support = (max(1.0, float(value)) for value in data["bets"])
        recent = [(float(quality), float(trust)) for quality, trust in data["recent"]]
        floor = data["floor"]
        numbers = [*sums, against, support, *(value for pair in recent for value in pair)]
        if len(sums) != 5 or not all(isfinite(value) and value >= 0.0 for value in numbers):
            raise ValueError("a record with numbers that can't be")
        self.state = State(data["state"])
        self._floor = None if floor is None else float(floor)
        self._weight, self._squares, self._good, self._latest, self._fell = sums
        self._against, self._for = against, support
        self._recent.extend(recent)

    def _belief(self) -> tuple[float, float, float]:
        """Mean, standard deviation and effective observations, from Jeffreys' prior."""
        n = self.observations
        good = n * self._good / self._weight if self._weight else 0.0
        mean = (good + 0.5) / (n + 1.0)
        return mean, sqrt(mean * (1.0 - mean) / (n + 2.0)), n

    def _add(self, quality: float, counted: float) -> None:
        self._weight = self._weight * self._keep + counted
        self._squares = self._squares * self._keep + counted * counted
        self._good = self._good * self._keep + counted * quality

    def _bet(self, quality: float, trust: float, floor: float) -> None:
        stake = trust * (floor - quality)
        self._against = max(1.0, self._against * (1.0 + stake))
        self._for = max(1.0, self._for * (1.0 - stake))

    def _judge(self, floor: float, vouched: bool = False) -> Turn | None:
        short = vouched and self.state is State.TRIAL
        enough = self.observations >= (_VOUCHED_EVIDENCE if short else _LEAST_EVIDENCE)
        chance = self.chance(floor)
        if self.state is State.OPEN:
            if self._against < RUIN and (chance >= _SHUTS or not enough):
                return None
            self._fall()
            return Turn.FELL
        sure = _OPENS if self.state is State.TRIAL else _REOPENS
        if enough and self._against < _ALARM and chance >= sure:
            self.state = State.OPEN
        return None

    def _fall(self) -> None:
        self.state = State.BACK
        self._clear()
        self._recent.clear()
        self._fell = self._latest

    def _renew(self) -> None:
        self._clear()
        for quality, trust in list(self._recent)[-_RENEWED:]:
            self._add(quality, trust)

    def _clear(self) -> None:
        self._weight = self._squares = self._good = 0.0
        self._against = self._for = 1.0
