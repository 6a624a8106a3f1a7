"""The numbers of this moment, for /admin/api/overview: totals since the process began."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from proxy.kept_budgets import KeptBudgets
from proxy.metrics import Metrics
from proxy.rules import Rules
from proxy.standing import budget_as_data
from proxy.upstream import Upstreams
from store.cache import Cache
from store.economics import Economics
from store.quarantine import Quarantine


def overview(
    *,
    rules: Rules,
    cache: Cache,
    quarantine: Quarantine,
    economics: Economics,
    upstreams: Upstreams,
    metrics: Metrics,
    budgets: KeptBudgets,
    calibration: Callable[[str], str],
    judge: dict[str, Any] | None,
    uptime: float,
    now: float,
) -> dict[str, Any]:
    """Return the overview; `uptime` and `now` in monotonic seconds."""
    lookups = metrics.lookup_counts()
    asked = sum(lookups.values())
    facts = cache.facts()
    shares = rules.book.shares.values()
    return {
        "version": version("nearhit"),
        "uptime_seconds": round(uptime),
        "lookups": lookups,
        "hit_rate": round(lookups.get("hit", 0) / asked, 4) if asked else None,
        "entries": sum(facts.entries.values()),
        "bytes": sum(facts.bytes.values()),
        "capacity": {
            "entries": sum(share.quota.entries for share in shares),
            "bytes": sum(share.quota.bytes for share in shares),
        },
        "categories": len(rules.book.names),
        "quarantined": len(quarantine),
        "upstreams": [
            {
                "name": group.name,
                "in_flight": group.in_flight,
                "first_byte_p95_ms": _milliseconds(group.latency_p95(now)),
            }
            for group in upstreams.groups
        ],
        "economics": [
            {"category": category, "upstream": group, **asdict(worth)}
            for (category, group), worth in economics.facts().items()
        ],
        "error_budgets": [
            {"category": name, "budget": policy.error_budget}
            | budget_as_data(budgets.standing(name), calibration(name))
            for name, policy in rules.book.policies.items()
            if policy.error_budget is not None
        ],
        "judge": judge,
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
