"""What the audits of one category have shown since it last came to a conclusion: an epoch.

A rate may drift, so evidence is looked at over several stretches of time. An epoch is watched from
its beginning, and from further moments, a new one every WINDOW audits, of which the older are
thinned out: a jump is seen by a young window that its good past does not dilute.

Of the chance ALPHA that anything said of one decision point is ever wrong, one half goes to lower
bounds and the other to upper ones. Of the many that follow each other the n-th gets 1/(n (n + 1))
of its half, which sums to 1: n counts the windows, for lower bounds, or the epochs, for upper ones,
that the category ever had. What controls say of the judge is part of either bound (bounds.py):
those of its whole life of a lower bound, those of the epoch of an upper one. Then a judge that has
changed lately can refute a point that is good, but hardly prove one that is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from typing import Any, NamedTuple, Self

from store.decision.bounds import (
    Tally,
    corrected,
    errs_less,
    errs_more,
    least_error,
    most_error,
)

ALPHA = 0.05
# The share of wrong answers that the judge is assumed to let pass at the most. It cannot be
# measured: nobody hands us answers that are known to be wrong in the way that hits are.
MISSES = 0.1
WINDOW = 100  # audits after which a further window begins
MAX_WINDOWS = 6
_HALF = log(2 / ALPHA)
_SUSPICION = 2.0  # log capital against the budget that calls for a closer look


class ErrorRate(NamedTuple):
    """A rate from 0 to 1, and what it is known to be between."""

    estimate: float | None  # None without a verdict
    lower: float
    upper: float


@dataclass(slots=True)
class Window:
    """Verdicts since one moment, by decision point."""

    number: int  # 1 for the first that the category ever had
    start: int  # audits of the epoch before it
    rows: list[Tally]  # as many as the points
    needed: float = field(init=False)

    def __post_init__(self) -> None:
        self.needed = spent(self.number)


@dataclass(slots=True)
class Evidence:
    """One epoch of one category."""

    number: int  # of the epoch, 1 for the first
    windows: list[Window]  # the first began with the epoch
    audits: int = 0
    controls: Tally = field(default_factory=Tally)  # of this epoch
    reference: float = 0.0  # the sampling probability that has weight 1: that of the first verdict

    @classmethod
    def begin(cls, number: int, window: int, points: int) -> Self:
        """Return an epoch without any audit; `window` is the number of its first window."""
        return cls(number, [_window(window, 0, points)])

    @property
    def newest(self) -> int:
        """The number of the newest window."""
        return self.windows[-1].number

    def add(self, rows: range, probability: float, wrong: bool) -> None:
        """Take a verdict on a hit that each of these points would have let pass.

        `probability` is that with which it was sampled; the verdict weighs its inverse.
        """
        self.reference = self.reference or probability
        weight = self.reference / probability
        self.audits += 1
        for window in self.windows:
            for place in rows:
                window.rows[place].add(wrong, weight)
        if self.audits % WINDOW == 0:
            points = len(self.windows[0].rows)
            self.windows.append(_window(self.newest + 1, self.audits, points))
            if len(self.windows) > MAX_WINDOWS:
                del self.windows[_most_crowded([window.start for window in self.windows])]

    def refuted(self, place: int, budget: float, controls: Tally) -> bool:
        """Whether the error rate at a point was above the budget since some window began.

        `controls` are all that there ever were, here and below.
        """
        return any(
            errs_more(window.rows[place], controls, budget, window.needed)
            for window in self.windows
            if window.rows[place].wrong
        )

    def suspicious(self, place: int, budget: float, controls: Tally) -> bool:
        """Whether it begins to look so."""
        return any(
            errs_more(window.rows[place], controls, budget, _SUSPICION)
            for window in self.windows
            if window.rows[place].wrong
        )

    def proven(self, place: int, budget: float) -> bool:
        """Whether the error rate at a point was within the budget in this epoch as a whole."""
        row = self.windows[0].rows[place]
        return errs_less(row, self.controls, budget, MISSES, spent(self.number))

    def rate(self, place: int, controls: Tally) -> ErrorRate:
        """Return the error rate at a point in this epoch, as the judge's false alarms allow."""
        row = self.windows[0].rows[place]
        raw = row.estimate
        return ErrorRate(
            None if raw is None else corrected(raw, controls.estimate or 0.0),
            least_error(row, controls, self.windows[0].needed) if row.wrong else 0.0,
            most_error(row, self.controls, MISSES, spent(self.number)),
        )

    def as_data(self) -> dict[str, Any]:
        """Return what `from_data` reads, as JSON holds it."""
        windows = [
            [window.number, window.start, [row.as_data() for row in window.rows]]
            for window in self.windows
        ]
        return {
            "number": self.number,
            "audits": self.audits,
            "reference": self.reference,
            "controls": self.controls.as_data(),
            "windows": windows,
        }

    @classmethod
    def from_data(cls, data: dict[str, Any], points: int) -> Self:
        """Return an epoch as it was; raise KeyError, TypeError or ValueError if none wrote that."""
        windows = [
            Window(number, start, [Tally.from_data(row) for row in rows])
            for number, start, rows in data["windows"]
        ]
        if not windows or any(len(window.rows) != points for window in windows):
            raise ValueError("not an epoch with these points")
        controls = Tally.from_data(data["controls"])
        return cls(data["number"], windows, data["audits"], controls, data["reference"])


def false_alarms(controls: Tally) -> ErrorRate:
    """Return the judge's false-alarm rate, with an interval at ALPHA, for all times at once."""
    return ErrorRate(controls.estimate, controls.lower(_HALF), controls.upper(_HALF))


def spent(number: int) -> float:
    """Return log(1/a) for the n-th bound of its kind."""
    return _HALF + log(number * (number + 1))


def _window(number: int, start: int, points: int) -> Window:
    return Window(number, start, [Tally() for _ in range(points)])


def _most_crowded(starts: Sequence[int]) -> int:
    """Return the place of the window whose neighbours stand in for it best; never the ends.

    Ages then come to grow about geometrically: close together near now, far apart long ago.
    """
    now = starts[-1]

    def room(place: int) -> float:
        return (starts[place + 1] - starts[place - 1]) / (now - starts[place - 1])

    return min(range(1, len(starts) - 1), key=room)
