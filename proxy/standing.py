"""What a category comes to at this moment: its policy as load has it, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from proxy.rules import Rules
from store.decision.budget_values import BudgetStanding
from store.decision.evidence import ErrorRate
from store.units import duration_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The effective numbers of one category, over all upstream groups."""

    hit_threshold: float  # the lowest
    ttl: timedelta  # the longest
    load_factor: float  # the highest
    semantic_open: bool  # whether looking up by meaning pays, for every upstream
    entries: int
    bytes: int
    budget: BudgetStanding
    calibration: str  # what ships its decision point: a date, `shipped` or `none`

    def as_data(self) -> dict[str, Any]:
        """Return what the admin API calls `effective`."""
        return {
            "hit_threshold": round(self.hit_threshold, 4),
            "ttl": duration_text(self.ttl),
            "load_factor": round(self.load_factor, 4),
            "semantic_tier": "open" if self.semantic_open else "closed",
            "entries": self.entries,
            "bytes": self.bytes,
            "error_budget": budget_as_data(self.budget, self.calibration),
        }


def standing_of(
    category: str,
    rules: Rules,
    *,
    load_factor: float,
    semantic_open: bool,
    entries: Mapping[str, int],
    bytes: Mapping[str, int],
    budget: BudgetStanding,
    calibration: str,
) -> Standing:
    """Return where a category of the book stands."""
    base = rules.book[category]
    bent = [policy for (name, _), policy in rules.bent.items() if name == category]
    return Standing(
        hit_threshold=min(policy.hit_threshold for policy in [base, *bent]),
        ttl=max(policy.ttl for policy in [base, *bent]),
        load_factor=load_factor,
        semantic_open=semantic_open,
        entries=entries.get(category, 0),
        bytes=bytes.get(category, 0),
        budget=budget,
        calibration=calibration,
    )


def budget_as_data(budget: BudgetStanding, calibration: str) -> dict[str, Any]:
    """Return what the admin API calls `error_budget`."""
    return {
        "state": budget.state,
        "calibration": calibration,
        "point": round(budget.point, 6),
        "tightened": round(budget.tightened, 4),
        "refuted_points": list(budget.refuted),
        "audits": budget.audits,
        "wrong": budget.wrong,
        "error": _rate_as_data(budget.error),
        "judge": {"controls": budget.controls, "false_alarm": _rate_as_data(budget.false_alarms)},
        "sampling": budget.sampling,
    }


def _rate_as_data(rate: ErrorRate) -> dict[str, float | None]:
    estimate = None if rate.estimate is None else round(rate.estimate, 6)
    return {"estimate": estimate, "lower": round(rate.lower, 6), "upper": round(rate.upper, 6)}
