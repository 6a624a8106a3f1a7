from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.usage.histogram import BOUNDS, BUCKETS, METRICS, bucket_of, counts_of, percentile

SECONDS = st.floats(1e-7, 500)


def counted(durations: list[float]) -> list[float]:
    counts = [0.0] * BUCKETS
    for seconds in durations:
        counts[bucket_of(seconds)] += 1
    return counts


@given(SECONDS)
def test_a_duration_is_within_the_bounds_of_its_bucket(seconds: float) -> None:
    number = bucket_of(seconds)
    assert seconds <= (*BOUNDS, math.inf)[number]
    assert number == 0 or seconds > BOUNDS[number - 1]


@given(st.lists(SECONDS, min_size=1, max_size=80), st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(
    durations: list[float], share: float
) -> None:
    found = percentile(counted(durations), share)
    rank = math.ceil(share * len(durations) - 1e-9)
    true = sorted(durations)[max(0, rank - 1)]
    number = bucket_of(true)
    assert found is not None
    if number == len(BOUNDS):
        assert found == BOUNDS[-1]
    else:
        assert BOUNDS[number] / 2 * (1 - 1e-9) <= found <= BOUNDS[number] * (1 + 1e-9)


@given(st.lists(SECONDS, max_size=40), st.lists(SECONDS, max_size=40))
def test_counts_of_two_processes_add_up(left: list[float], right: list[float]) -> None:
    both = [a + b for a, b in zip(counted(left), counted(right), strict=True)]
    assert both == counted([*left, *right])


def test_nothing_counted_has_no_percentile() -> None:
    assert percentile(counted([]), 0.5) is None


def test_every_bucket_has_a_name_of_its_own_in_milliseconds() -> None:
    assert len(set(METRICS)) == BUCKETS == len(BOUNDS) + 1
    assert METRICS[:2] == ("ms_le_0.05", "ms_le_0.1") and METRICS[-1] == "ms_le_inf"
    assert counts_of({"ms_le_0.1": 3, "requests": 3})[:3] == [0, 3, 0]


@pytest.mark.parametrize(("share", "low", "high"), [(0.5, 0.0008, 0.0016), (0.95, 0.8, 1.7)])
def test_hits_and_misses_are_told_apart(share: float, low: float, high: float) -> None:
    found = percentile(counted([0.001] * 90 + [1.5] * 10), share)
    assert found is not None and low <= found <= high
