"""A row passes only when it was measured, was what its name says, and kept its bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.verdicts import (
    FEWEST_REQUESTS,
    Reading,
    Row,
    Target,
    at_least,
    at_most,
    call_faults,
    floor_faults,
    near_ceiling,
    run_faults,
    settle,
    status_faults,
)
from bench.wrk import Measured

RATIO = Row("exact-16", "share of the echo's rate", "x", at_least(0.5))


def run(
    requests: int = 1000,
    errors: dict[str, int] | None = None,
    statuses: dict[str, int] | None = None,
) -> Measured:
    """A run that went well unless told otherwise."""
    return Measured(
        rate=requests / 2,
        p50=1.0,
        p99=2.0,
        requests=requests,
        errors=errors or {},
        statuses=statuses or {},
    )


def readings(*values: float, faults: tuple[str, ...] = ()) -> list[Reading]:
    """One reading a value."""
    return [Reading(value=value, parts={"floor": value * 2}, faults=faults) for value in values]


@pytest.mark.parametrize(
    ("target", "value", "holds"),
    [
        pytest.param(at_least(0.5), 0.5, True, id="a lower bound includes itself"),
        pytest.param(at_least(0.5), 0.499, False, id="just below a lower bound"),
        pytest.param(at_most(0.6), 0.6, True, id="an upper bound includes itself"),
        pytest.param(at_most(0.6), 0.601, False, id="just above an upper bound"),
        pytest.param(at_most(0.6), -0.1, True, id="faster than the floor"),
    ],
)
def test_targets(target: Target, value: float, holds: bool) -> None:
    assert target.holds(value) is holds


def test_the_median_of_the_rounds_decides() -> None:
    outcome = settle(RATIO, readings(0.9, 0.4, 0.6))
    assert (outcome.value, outcome.verdict) == (0.6, "pass")
    assert outcome.parts == {"floor": 1.2}
    assert settle(RATIO, readings(0.9, 0.4, 0.45)).verdict == "fail"


@given(st.lists(st.floats(0, 10), min_size=1, max_size=9))
def test_a_median_lies_between_the_rounds(values: list[float]) -> None:
    outcome = settle(RATIO, readings(*values))
    assert min(values) <= outcome.value <= max(values)
    assert outcome.verdict == ("pass" if outcome.value >= 0.5 else "fail")


def test_a_row_without_a_target_is_for_information() -> None:
    assert settle(Row("streams", "streams/s", "/s"), readings(1.0)).verdict == "info"


def test_one_fault_in_one_round_makes_the_row_invalid_and_is_told_once() -> None:
    rounds = readings(0.9, 0.9) + readings(0.9, faults=("2 x read error", "2 x read error"))
    outcome = settle(RATIO, rounds)
    assert outcome.verdict == "invalid"
    assert outcome.faults == ("2 x read error",)


def test_a_row_that_measured_nothing_is_invalid() -> None:
    assert settle(RATIO, [Reading(value=math.nan, parts={})]).verdict == "invalid"


def test_parts_that_a_failed_round_lacks_come_from_the_others() -> None:
    rounds = [Reading(value=math.nan, parts={}, faults=("died",)), *readings(0.6)]
    assert settle(RATIO, rounds).parts == {"floor": 1.2}


def test_no_rounds_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="exact-16: no readings"):
        settle(RATIO, [])


@pytest.mark.parametrize(
    ("rate", "ceiling", "near"),
    [
        pytest.param(79.0, 100.0, False, id="well below the ceiling"),
        pytest.param(80.0, 100.0, False, id="20 % below it"),
        pytest.param(81.0, 100.0, True, id="within 20 %"),
        pytest.param(120.0, 100.0, True, id="above it"),
        pytest.param(1.0, 0.0, True, id="no ceiling was found"),
    ],
)
def test_a_generator_near_its_own_ceiling_measures_itself(
    rate: float, ceiling: float, near: bool
) -> None:
    assert near_ceiling(rate, ceiling) is near


def test_errors_and_too_few_requests_are_faults() -> None:
    assert run_faults("echo", run()) == []
    assert run_faults("echo", run(errors={"read": 2})) == ["echo: 2 x read error"]
    few = FEWEST_REQUESTS - 1
    assert run_faults("echo", run(requests=few)) == [f"echo: only {few} requests"]


@pytest.mark.parametrize(
    ("floor", "time", "faults"),
    [
        pytest.param(7.0, 8.0, [], id="slower than the floor"),
        pytest.param(7.0, 6.5, [], id="faster by noise"),
        pytest.param(
            8.0, 6.0, ["nearhit: 25 % faster than its floor, which was disturbed"], id="by too much"
        ),
    ],
)
def test_nothing_is_much_faster_than_what_it_contains(
    floor: float, time: float, faults: list[str]
) -> None:
    assert floor_faults(floor, time) == faults


def test_answers_of_another_kind_are_faults() -> None:
    hit, miss = "nearhit; hit; detail=semantic", "nearhit; fwd=miss"
    assert status_faults("semantic", run(statuses={hit: 9}), hit) == []
    assert status_faults("semantic", run(statuses={hit: 9, miss: 1}), hit) == [
        "semantic: 1 answers were 'nearhit; fwd=miss'"
    ]
    assert status_faults("semantic", run(), hit) == [f"semantic: no answer was {hit!r}"]


@pytest.mark.parametrize(
    ("calls", "least", "most", "faults"),
    [
        pytest.param(0, 0, 0, [], id="a hit that reached nobody"),
        pytest.param(1, 0, 0, ["hit: 1 calls reached the upstream, not 0"], id="a hit that did"),
        pytest.param(101, 100, 101, [], id="one more under way at the end"),
        pytest.param(
            99, 100, 101, ["hit: 99 calls reached the upstream, not 100 to 101"], id="one too few"
        ),
    ],
)
def test_the_upstreams_counter_has_the_last_word(
    calls: int, least: int, most: int, faults: list[str]
) -> None:
    assert call_faults("hit", calls, least, most) == faults
