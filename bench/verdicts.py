"""What a reading is worth: validity rules, medians, targets. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple, Protocol

CEILING_SHARE = 0.8  # a generator that is this near its own ceiling measures itself
BELIEVABLE = 0.85  # of its floor's time; nothing is truly faster than what it contains
FEWEST_REQUESTS = 50  # below, a median says little

Verdict = Literal["pass", "fail", "invalid", "info"]


class Run(Protocol):
    """What every generator reports."""

    @property
    def rate(self) -> float: ...
    @property
    def requests(self) -> int: ...
    @property
    def errors(self) -> Mapping[str, int]: ...
    @property
    def statuses(self) -> Mapping[str, int]: ...


class Target(NamedTuple):
    """The bound that a row's value must keep, the bound itself included."""

    sense: Literal["at least", "at most"]
    limit: float

    def holds(self, value: float) -> bool:
        """Whether the value keeps it."""
        return value >= self.limit if self.sense == "at least" else value <= self.limit


def at_least(limit: float) -> Target:
    """Return a lower bound."""
    return Target("at least", limit)


def at_most(limit: float) -> Target:
    """Return an upper bound."""
    return Target("at most", limit)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    what: str  # what the value is, in words
    unit: str
    target: Target | None = None  # None: for information


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One round's value of a row, what it was computed from, and why it does not count."""

    value: float
    parts: Mapping[str, float]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A row with all its readings."""

    row: Row
    value: float
    parts: Mapping[str, float]  # medians
    verdict: Verdict
    faults: tuple[str, ...]
    readings: tuple[Reading, ...]


def settle(row: Row, readings: Sequence[Reading]) -> Outcome:
    """Return the row's medians and verdict; one fault in any round makes the row invalid."""
    if not readings:
        raise ValueError(f"{row.name}: no readings")
    value = median(reading.value for reading in readings)
    faults = tuple(dict.fromkeys(fault for reading in readings for fault in reading.faults))
    verdict: Verdict
    if faults or value != value:  # NaN: nothing was measured
        verdict = "invalid"
    elif row.target is None:
        verdict = "info"
    else:
        verdict = "pass" if row.target.holds(value) else "fail"
    names = dict.fromkeys(name for reading in readings for name in reading.parts)
    parts = {n: median(r.parts[n] for r in readings if n in r.parts) for n in names}
    return Outcome(
        row=row,
        value=value,
        parts=parts,
        verdict=verdict,
        faults=faults,
        readings=tuple(readings),
    )


def near_ceiling(rate: float, ceiling: float) -> bool:
    """Whether the rate is within 20 % of what the generator can do at all."""
    return rate > CEILING_SHARE * ceiling


def run_faults(name: str, run: Run, fewest: int = FEWEST_REQUESTS) -> list[str]:
    """Return why a run does not count: failed requests, or hardly any."""
    faults = [f"{name}: {count} x {kind} error" for kind, count in run.errors.items()]
    if run.requests < fewest:
        faults.append(f"{name}: only {run.requests} requests")
    return faults


def floor_faults(floor: float, time: float) -> list[str]:
    """Return whether a time is so far below its own floor that something disturbed the floor."""
    if time >= BELIEVABLE * floor:
        return []
    return [f"nearhit: {100 * (1 - time / floor):.0f} % faster than its floor, which was disturbed"]


def status_faults(name: str, run: Run, expected: str) -> list[str]:
    """Return which answers were not what the case is about, by their Cache-Status."""
    others = {kind: count for kind, count in run.statuses.items() if kind != expected}
    faults = [f"{name}: {count} answers were {kind!r}" for kind, count in others.items()]
    if expected not in run.statuses:
        faults.append(f"{name}: no answer was {expected!r}")
    return faults


def call_faults(name: str, calls: int, least: int, most: int) -> list[str]:
    """Return whether the upstream's own counter contradicts the case."""
    if least <= calls <= most:
        return []
    bounds = str(least) if least == most else f"{least} to {most}"
    return [f"{name}: {calls} calls reached the upstream, not {bounds}"]
