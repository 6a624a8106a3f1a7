"""An overload run's numbers are counted by phase, and a run that does not count says why."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bench.overload_account import (
    Arm,
    Base,
    Phase,
    Sample,
    Served,
    Tally,
    back_after,
    change,
    effective,
    faults_of,
    gauges,
    moves,
    percentile,
    table,
    tally,
)
from bench.overload_stream import Ask, Stream
from bench.stand import EXACT_HIT, MISS, SEMANTIC_HIT

BASE = Base(threshold=0.92, ttl=60.0)
CALM, LATER = Phase("calm", 0.0, 10.0), Phase("overload", 10.0, 20.0)
METRICS = """\
# HELP nearhit_load_factor Load factor
# TYPE nearhit_load_factor gauge
nearhit_load_factor{category="default"} 0.25
nearhit_load_factor{category="other"} 0.5
nearhit_effective_threshold{category="default"} 0.9075
nearhit_effective_ttl_seconds{category="default"} 1.95e+02
nearhit_entries{category="default"} 7.0
"""


def at_base(*times: float) -> list[Sample]:
    """Samples of the base policy."""
    return [Sample(time, 0.0, BASE.threshold, BASE.ttl) for time in times]


def bent(*times: float) -> list[Sample]:
    """Samples of a policy that is bent."""
    return [Sample(time, 0.5, 0.895, 330.0) for time in times]


# What is in force


def test_gauges_are_read_for_the_category() -> None:
    assert gauges(METRICS, "default") == (0.25, 0.9075, 195.0)


@pytest.mark.parametrize("category", ["other", "absent", "d.fault"])
def test_a_category_without_all_of_the_gauges_has_none(category: str) -> None:
    assert gauges(METRICS, category) is None


def test_the_admin_api_says_what_is_in_force() -> None:
    said = {"hit_threshold": 0.9, "ttl": "2d", "load_factor": 0.4}
    answer = {"categories": [{"name": "a"}, {"name": "default", "effective": said}], "next": None}
    assert effective(answer, "default", 5.0) == Sample(5.0, 0.4, 0.9, 172_800.0)


@pytest.mark.parametrize("answer", [{}, {"categories": [{"name": "default"}]}])
def test_an_admin_api_that_says_nothing_is_refused(answer: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no `effective` of 'default'"):
        effective(answer, "default", 5.0)


@pytest.mark.parametrize(
    ("samples", "back"),
    [
        pytest.param(at_base(1, 2) + bent(3, 25) + at_base(26, 30), 5.0, id="5 s after the end"),
        pytest.param(bent(3, 12) + at_base(13, 30), 0.0, id="before the end"),
        pytest.param(at_base(1, 30), 0.0, id="never bent"),
        pytest.param(at_base(21) + bent(22, 28) + at_base(30), 8.0, id="for good only counts"),
        pytest.param(at_base(1) + bent(25, 30), None, id="still bent at the end"),
        pytest.param([], None, id="nothing known"),
    ],
)
def test_how_long_after_the_overload_the_base_was_back(
    samples: list[Sample], back: float | None
) -> None:
    assert back_after(samples, BASE, 20.0) == back


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(Sample(0, 0.1, 0.92, 60.0), id="a factor"),
        pytest.param(Sample(0, 0.0, 0.9199, 60.0), id="a lower threshold"),
        pytest.param(Sample(0, 0.0, 0.92, 61.0), id="a longer lifetime"),
    ],
)
def test_any_difference_is_not_the_base(sample: Sample) -> None:
    assert not sample.is_base(BASE)


# Counting

STREAM = Stream(
    "x",
    [
        Ask(1.0, "a", 1),
        Ask(2.0, "also a", 1),
        Ask(3.0, "b", 2),
        Ask(4.0, "a", 1),
        Ask(9.99, "b", 2),
        Ask(10.0, "c", 3),
        Ask(19.0, "a", 1),
    ],
)
SERVED = [
    Served(0.0, 0.300, MISS, "a"),
    Served(0.0, 0.010, SEMANTIC_HIT, "a", age=1.0),
    Served(0.0, 0.012, SEMANTIC_HIT, "a", age=2.0),  # wrong
    Served(0.0, 0.002, EXACT_HIT, "a", age=61.0),
    Served(0.0, 0.500, "none", fault="status 502"),
    Served(0.0, 0.400, MISS, "a"),  # wrong, and not even a hit
    Served(0.0, 0.002, EXACT_HIT, "a", age=60.0),
]


def test_a_phase_is_counted_from_its_start_to_before_its_end() -> None:
    samples = [*at_base(1), *bent(5), *bent(11)]
    assert tally(STREAM, SERVED, samples, CALM, 2, BASE) == Tally(
        phase="calm",
        asked=5,
        upstream=2,
        exact=1,
        semantic=2,
        wrong=1,
        aged=1,
        p50_ms=10.0,
        p95_ms=12.0,
        factor=0.25,
    )
    later = tally(STREAM, SERVED, samples, LATER, 1, BASE)
    assert (later.asked, later.exact, later.semantic, later.wrong, later.aged) == (2, 1, 0, 1, 0)
    assert (later.hit_rate, later.factor) == (0.5, 0.5)


def test_a_phase_in_which_nothing_was_asked_measures_nothing() -> None:
    found = tally(STREAM, SERVED, [], Phase("after", 20, 30), 0, BASE)
    assert (found.asked, found.hit_rate, found.factor) == (0, 0.0, 0.0)
    assert math.isnan(found.p50_ms)


def test_a_stream_and_answers_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        tally(STREAM, SERVED[:-1], [], CALM, 0, BASE)


def test_percentiles_of_ordered_values() -> None:
    values = [float(n) for n in range(101)]
    assert (percentile(values, 0.5), percentile(values, 0.95)) == (50.0, 95.0)
    assert percentile([3.0], 0.95) == 3.0


# Runs that do not count


def test_a_run_without_faults_counts() -> None:
    assert faults_of([Served(0.01, 0.1, MISS)] * 100) == []


def test_failed_requests_are_faults_by_kind() -> None:
    failed = [Served(0, 0, "none", fault=fault) for fault in ("status 502", "TimeoutError")]
    assert faults_of([*failed, failed[0]]) == ["2 x status 502", "1 x TimeoutError"]


def test_a_generator_that_cannot_keep_up_is_a_fault() -> None:
    late = [Served(0.9, 0.1, MISS)] * 10
    assert faults_of([Served(0.0, 0.1, MISS)] * 90 + late) == [
        "the generator was 900 ms late at the 95th percentile"
    ]
    assert faults_of([Served(0.0, 0.1, MISS)] * 990 + late) == []


def test_requests_past_the_cache_are_a_fault_when_they_are_many() -> None:
    past = Served(0.0, 0.1, "nearhit; fwd=bypass; detail=overload")
    assert faults_of([Served(0.0, 0.1, MISS)] * 99 + [past]) == []
    assert faults_of([Served(0.0, 0.1, MISS)] * 98 + [past] * 2) == [
        "2 of 100 requests went past the cache"
    ]


# The report

TALLY = Tally("overload", 1000, 600, 100, 300, 3, 20, 150.0, 2500.0, 0.4)
OFF = Arm("own", "off", [TALLY], at_base(1, 2), 0.0)
BOTH = Arm(
    "own", "both", [replace(TALLY, upstream=540, semantic=360)], [*at_base(1), *bent(12, 25)], 5.0
)


def test_the_table_compares_each_arm_with_the_first_of_its_stream() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table([OFF, BOTH, replace(OFF, stream="data")]).splitlines()
    ]
    assert [len(row) for row in rows] == [13] * 5
    assert [row[5] for row in rows[2:]] == ["", "-10.0 %", ""]
    assert rows[3][:5] == ["own", "both", "overload", "1000", "540"]
    assert rows[3][6:] == ["0.460", "100 + 360", "3", "20", "150", "2500", "0.40"]


def test_changes_are_signed_and_need_something_to_compare_with() -> None:
    assert [change(90, 100), change(110, 100), change(1, 0)] == ["-10.0 %", "+10.0 %", "no calls"]


def test_moves_say_how_far_the_policy_bent_and_when_it_was_back() -> None:
    said = moves(BOTH, BASE)
    assert "from threshold 0.920, TTL 1m as far as threshold 0.895, TTL 330s" in said
    assert "first bent at second 12; back at base 5 s after its end." in said
    assert "NOT back at base" in moves(replace(BOTH, back=None), BASE)
    assert "the base policy throughout" in moves(OFF, BASE)
