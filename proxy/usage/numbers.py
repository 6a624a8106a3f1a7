"""What rows of the ledger say: sums, shares, percentiles, and how they went over time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from proxy.outcome import Served
from proxy.usage.histogram import BUCKETS, counts_of, percentile
from store.documents.usage import LENGTH, Span, UsageRow, start_of, summed

HITS = (Served.EXACT, Served.SEMANTIC)
# How a chart groups them: six colours can be told apart.
GROUPS: Mapping[str, tuple[Served, ...]] = {
    "exact": (Served.EXACT,),
    "by meaning": (Served.SEMANTIC,),
    "near-hit": (Served.NEAR_HIT,),
    "miss": (Served.MISS,),
    "shared or expired": (Served.COLLAPSED, Served.STALE_IF_ERROR),
    "bypass or failed": (Served.BYPASS, Served.FAILED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Some rows in one. Shares are of all requests, None without any; times in seconds."""

    requests: int
    by_outcome: Mapping[str, int]
    shares: Mapping[str, float | None]  # of exact hits, hits by meaning and near-hits
    hit_rate: float | None  # exact and by meaning
    used_tokens: int
    saved_tokens: int
    saved_seconds: float
    spent: float
    saved: float
    unmetered: int  # answers that did not say what they used
    unpriced: int
    hit_p50: float | None
    hit_p95: float | None
    miss_p50: float | None
    miss_p95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Rows over time: one value a moment, None where there is none."""

    times: list[datetime]
    groups: Mapping[str, list[float | None]]  # requests by the groups of GROUPS
    hit_rate: list[float | None]
    hit_p50: list[float | None]
    hit_p95: list[float | None]
    miss_p50: list[float | None]
    miss_p95: list[float | None]


def summary(rows: Iterable[UsageRow]) -> Summary:
    """Return what the rows come to."""
    rows = list(rows)
    total: Mapping[str, float] = {}
    by_outcome = {each.value: 0 for each in Served}
    for key, amounts in rows:
        total = summed(total, amounts)
        requests = int(amounts.get("requests", 0))
        by_outcome[key.outcome] = by_outcome.get(key.outcome, 0) + requests
    asked = sum(by_outcome.values())
    hits, misses = _durations(rows, HITS), _durations(rows, (Served.MISS,))
    return Summary(
        requests=asked,
        by_outcome=by_outcome,
        shares={
            each.value: by_outcome[each] / asked if asked else None
            for each in (*HITS, Served.NEAR_HIT)
        },
        hit_rate=sum(by_outcome[each] for each in HITS) / asked if asked else None,
        used_tokens=int(total.get("prompt_tokens", 0) + total.get("completion_tokens", 0)),
        saved_tokens=int(
            total.get("saved_prompt_tokens", 0) + total.get("saved_completion_tokens", 0)
        ),
        saved_seconds=total.get("saved_seconds", 0.0),
        spent=total.get("spent", 0.0),
        saved=total.get("saved", 0.0),
        unmetered=int(total.get("unmetered", 0)),
        unpriced=int(total.get("unpriced", 0)),
        hit_p50=percentile(hits, 0.5),
        hit_p95=percentile(hits, 0.95),
        miss_p50=percentile(misses, 0.5),
        miss_p95=percentile(misses, 0.95),
    )


def course(rows: Iterable[UsageRow], span: Span, now: datetime, shown: timedelta) -> Course:
    """Return how the rows of one span went in the time `shown` before now, moment by moment."""
    first = start_of(span, now) - shown + LENGTH[span]
    times = [first + LENGTH[span] * n for n in range(shown // LENGTH[span])]
    at: dict[datetime, list[UsageRow]] = {time: [] for time in times}
    for row in rows:
        if row.key.start in at:
            at[row.key.start].append(row)
    sums = [summary(at[time]) for time in times]

    def values(of: Callable[[Summary], float | None]) -> list[float | None]:
        return [of(each) for each in sums]

    return Course(
        times=times,
        groups={
            name: [float(sum(each.by_outcome[one] for one in group)) for each in sums]
            for name, group in GROUPS.items()
        },
        hit_rate=values(lambda each: each.hit_rate),
        hit_p50=values(lambda each: each.hit_p50),
        hit_p95=values(lambda each: each.hit_p95),
        miss_p50=values(lambda each: each.miss_p50),
        miss_p95=values(lambda each: each.miss_p95),
    )


def since(rows: Iterable[UsageRow], start: datetime) -> list[UsageRow]:
    """Return the rows that do not begin before `start`."""
    return [row for row in rows if row.key.start >= start]


def _durations(rows: Sequence[UsageRow], served: Sequence[Served]) -> list[float]:
    counts = [0.0] * BUCKETS
    for key, amounts in rows:
        if key.outcome in served:
            counts = [a + b for a, b in zip(counts, counts_of(amounts), strict=True)]
    return counts
