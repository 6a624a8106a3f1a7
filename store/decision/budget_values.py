"""What goes into an error budget beside verdicts, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from store.decision.evidence import ErrorRate


class Sample(NamedTuple):
    """How a hit came to be audited."""

    probability: float  # in (0, 1]
    point: float  # in force when it was served
    epoch: int  # at that time


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStanding:
    """Where a category stands."""

    state: str  # unproven, proven or refuted
    point: float  # in force; 0.0 serves nothing by meaning
    tightened: float  # what complaints have multiplied it by
    refuted: tuple[float, ...]  # points that may not come back yet
    audits: int  # verdicts on hits, ever
    wrong: int  # of these
    error: ErrorRate
    controls: int
    false_alarms: ErrorRate
    sampling: float  # probability that a hit by meaning is audited
