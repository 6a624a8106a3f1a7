"""How long requests took, counted by powers of two: enough for a median and a 95th percentile.

Counts of many processes add up, which percentiles do not. Pure.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

BOUNDS = tuple(50e-6 * 2.0**n for n in range(24))  # seconds: from 50 us to 7 minutes
METRICS = tuple(f"ms_le_{bound * 1e3:.6g}" for bound in (*BOUNDS, math.inf))
BUCKETS = len(METRICS)  # the last is for what took longer


def bucket_of(seconds: float) -> int:
    """Return the bucket that a duration is counted in: the first whose bound is not below it."""
    return bisect_left(BOUNDS, seconds)


def counts_of(amounts: Mapping[str, float]) -> list[float]:
    """Return the counts that a row of the ledger holds, one a bucket."""
    return [amounts.get(metric, 0) for metric in METRICS]


def percentile(counts: Sequence[float], share: float) -> float | None:
    """Return about how many seconds a share of the durations, above 0 to 1, stays within.

    None without a count. It lies in the same bucket as the true value, so it is off by a factor of
    two at the most; what took longer than the last bound is said to have taken that.
    """
    total = sum(counts)
    if total <= 0:
        return None
    rank = share * total  # the true value is that of the first whole number from here on
    below = 0.0
    for number, count in enumerate(counts):
        if count > 0 and below + count >= rank:
            if number == len(BOUNDS):
                return BOUNDS[-1]
            part = min(1.0, max(0.0, (rank - below) / count))
            return BOUNDS[number] * math.pow(2.0, part - 1.0)
        below += count
    return BOUNDS[-1]
