"""Load adaptation bends slowly, never beyond its bounds, and always comes back."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.load import (
    DAMPING,
    FEWEST,
    WINDOW,
    Damping,
    LoadState,
    Reading,
    adapted,
    step,
)
from store.policy import LoadRule, Policy

TARGET = 400.0  # ms
CALM = Reading(p95_ms=150.0, in_flight=5)
PRESSED = Reading(p95_ms=1200.0, in_flight=40)
HOUR = timedelta(hours=1)
RULE = LoadRule(latency_target_ms=TARGET, threshold_floor=0.85, ttl_ceiling=3 * HOUR)
POLICY = Policy(name="faq", hit_threshold=0.92, near_threshold=0.9, ttl=HOUR, load=RULE)

readings = st.builds(
    Reading,
    p95_ms=st.none() | st.floats(0, 1e6) | st.sampled_from([math.nan, math.inf, -1.0]),
    in_flight=st.integers(0, 5000),
)
quiet_readings = st.builds(
    Reading, p95_ms=st.floats(0, TARGET / 2), in_flight=st.integers(0, 5000)
) | st.just(Reading(p95_ms=None, in_flight=0))
shares = st.floats(0, 1)


@st.composite
def states(draw: st.DrawFn) -> LoadState:
    """Any state that could have been reached by second 1,000."""
    return LoadState(
        factor=draw(shares),
        engaged=draw(st.booleans()),
        pressure=draw(shares),
        quiet=draw(st.none() | st.floats(0, 1000)),
        learned=draw(st.floats(0, DAMPING.memory)),
        changed_at=draw(st.just(-math.inf) | st.floats(0, 1000)),
        stepped_at=1000.0,
        answered_at=draw(st.floats(0, 1000)),
    )


def run(
    state: LoadState, reading: Reading, seconds: int, start: float = 0.0, damping: Damping = DAMPING
) -> LoadState:
    """The state after so many seconds of the same reading, stepped once a second."""
    for second in range(1, seconds + 1):
        state = step(state, reading, TARGET, start + second, damping)
    return state


def learned(reading: Reading = CALM, seconds: int = 60) -> LoadState:
    """A state that knows its quiet level, at second 0."""
    return run(LoadState(), reading, seconds, start=-seconds)


# What one reading says


@pytest.mark.parametrize(
    ("reading", "pressure"),
    [
        pytest.param(Reading(100, 5), 0.0, id="fast and quiet"),
        pytest.param(Reading(190, 500), 0.0, id="many in flight on an upstream that stays fast"),
        pytest.param(Reading(400, 5), 0.0, id="just at the target, no queue"),
        pytest.param(Reading(400, 10), 0.5, id="at the target with twice the quiet level"),
        pytest.param(Reading(300, 15), 0.5, id="nearing the target with a full queue"),
        pytest.param(Reading(400, 15), 1.0, id="at the target with three times the quiet level"),
        pytest.param(Reading(600, 5), 0.5, id="half over the target, no queue"),
        pytest.param(Reading(600, 10), 0.75, id="half over the target, some queue"),
        pytest.param(Reading(800, 0), 1.0, id="twice the target"),
        pytest.param(Reading(None, 0), 0.0, id="no calls"),
        pytest.param(Reading(math.nan, 0), 0.0, id="nonsense"),
    ],
)
def test_pressure_comes_from_slowness_and_from_a_queue_near_the_target(
    reading: Reading, pressure: float
) -> None:
    at_once = Damping(smoothing=1e-9)
    assert step(learned(), reading, TARGET, 1.0, at_once).pressure == pytest.approx(pressure)


def test_calls_that_never_come_back_are_pressure_after_the_targets_time() -> None:
    state = learned()
    stuck = Reading(p95_ms=None, in_flight=50)
    soon = step(state, stuck, TARGET, 0.1)
    assert soon.pressure == 0
    assert run(soon, stuck, 20, start=0.1).engaged


def test_one_call_that_never_comes_back_is_no_overload() -> None:
    assert run(learned(), Reading(p95_ms=None, in_flight=1), 600).factor == 0


def test_a_handful_of_calls_is_no_queue_on_an_upstream_that_is_hardly_used() -> None:
    rarely = learned(Reading(p95_ms=150.0, in_flight=0))
    at_once = Damping(smoothing=1e-9)
    assert step(rarely, Reading(400, 4), TARGET, 1.0, at_once).pressure == 0


def test_without_a_quiet_level_only_slowness_counts() -> None:
    assert not run(LoadState(), Reading(p95_ms=None, in_flight=500), 60).engaged
    assert run(LoadState(), Reading(p95_ms=900.0, in_flight=0), 60).engaged


def test_the_quiet_level_is_a_mean_at_first_and_forgets_slowly() -> None:
    assert learned().quiet == pytest.approx(5)
    busier = run(learned(seconds=600), Reading(p95_ms=150.0, in_flight=25), 300)
    assert busier.quiet == pytest.approx(5 + 20 * (1 - math.exp(-1)), abs=0.1)


def test_the_quiet_level_is_not_learned_from_an_overload() -> None:
    assert run(learned(), PRESSED, 300).quiet == learned().quiet


def test_a_higher_level_within_the_target_becomes_the_quiet_one_and_lets_go() -> None:
    grown = Reading(p95_ms=395.0, in_flight=30)
    state = run(learned(seconds=300), grown, 60)
    assert state.engaged  # near the target with six times the calls: a warning
    assert run(state, grown, 900, start=60.0).factor == 0


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan])
def test_an_impossible_target_never_bends_anything(target: float) -> None:
    state = learned()
    for second in range(60):
        state = step(state, PRESSED, target, second)
    assert state.factor == 0


# How it moves


def test_an_overload_engages_after_seconds_and_takes_a_minute_to_full_effect() -> None:
    state = learned()
    assert not run(state, PRESSED, 5).engaged  # a moment is no overload
    assert run(state, PRESSED, 8).engaged
    assert run(state, PRESSED, 30).factor < 0.5
    assert run(state, PRESSED, 90).factor == pytest.approx(1)


def test_the_way_back_takes_seconds_once_the_pressure_is_gone() -> None:
    state = run(learned(), PRESSED, 120)
    back = run(state, CALM, 20, start=120.0)
    assert back == replace(back, factor=0.0, engaged=False)


def test_the_dwell_time_keeps_the_flag_and_not_the_factor() -> None:
    state = run(learned(), PRESSED, 10)
    assert state.engaged
    calm = run(state, CALM, 15, start=10.0)
    assert calm.engaged  # for 30 s from when it engaged
    assert calm.factor < 0.06
    assert not run(state, CALM, 30, start=10.0).engaged


def test_the_factor_settles_at_the_pressure_and_not_beyond() -> None:
    state = run(run(learned(), PRESSED, 60), Reading(p95_ms=600.0, in_flight=5), 60, start=60.0)
    assert state.engaged
    assert state.factor == pytest.approx(0.5, abs=0.01)


def test_a_step_that_comes_late_does_not_jump() -> None:
    state = replace(learned(), pressure=1.0, engaged=True)
    late = step(state, PRESSED, TARGET, 3600.0)
    assert late.factor == pytest.approx(DAMPING.rise * DAMPING.longest_step)


def test_time_that_runs_backwards_changes_nothing() -> None:
    state = run(learned(), PRESSED, 40)
    before = step(state, CALM, TARGET, 20.0)
    assert (before.factor, before.pressure, before.quiet, before.stepped_at) == (
        state.factor,
        state.pressure,
        state.quiet,
        state.stepped_at,
    )


# What always holds


@given(states(), st.lists(st.tuples(readings, st.floats(0, 20)), max_size=40))
def test_the_factor_stays_within_0_and_1_and_its_steps_are_bounded(
    state: LoadState, steps: list[tuple[Reading, float]]
) -> None:
    now = 1000.0
    for reading, passed in steps:
        now += passed
        after = step(state, reading, TARGET, now)
        assert 0 <= after.factor <= 1
        assert 0 <= after.pressure <= 1
        rise = DAMPING.rise * min(passed, DAMPING.longest_step)
        assert after.factor <= state.factor + rise + 1e-9
        assert after.factor >= state.factor - DAMPING.fall * passed - 1e-9
        state = after


@given(
    states(),
    st.none() | st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.integers(0, 5000),
    st.integers(0, 5000),
    st.floats(0.1, 10),
)
def test_more_pressure_never_means_a_smaller_factor(
    state: LoadState, p95: float | None, slower: float, few: int, more: int, passed: float
) -> None:
    gentle = Reading(p95, few)
    hard = Reading(None if p95 is None else p95 + slower, few + more)
    less, greater = (step(state, each, TARGET, 1000.0 + passed) for each in (gentle, hard))
    assert greater.pressure >= less.pressure - 1e-9
    assert greater.factor >= less.factor - 1e-9


@given(states(), quiet_readings, st.floats(0.5, 5))
def test_from_any_state_quiet_readings_give_exactly_the_base_policy_back(
    state: LoadState, quiet: Reading, every: float
) -> None:
    now = 1000.0
    last = now + DAMPING.dwell + 1 / DAMPING.fall + 2 * every
    while now < last:
        now += every
        state = step(state, quiet, TARGET, now)
    assert state.factor == 0
    assert not state.engaged
    assert adapted(POLICY, state.factor) is POLICY


@given(states(), st.lists(readings, min_size=1, max_size=120), st.floats(0.5, 60))
def test_the_flag_changes_at_most_once_within_the_dwell_time(
    state: LoadState, each: list[Reading], dwell: float
) -> None:
    damping = Damping(dwell=dwell)
    changes = [state.changed_at]
    for second, reading in enumerate(each, start=1):
        after = step(state, reading, TARGET, 1000.0 + second, damping)
        if after.engaged != state.engaged:
            changes.append(1000.0 + second)
        state = after
    assert all(b - a >= dwell for a, b in zip(changes, changes[1:], strict=False))


@given(states(), st.lists(st.floats(0.45, 0.65), min_size=1, max_size=200))
def test_pressure_that_oscillates_within_the_band_changes_the_flag_never(
    state: LoadState, pressures: list[float]
) -> None:
    state = replace(state, pressure=0.5, changed_at=-math.inf)
    for second, pressure in enumerate(pressures, start=1):
        reading = Reading(p95_ms=TARGET * (1 + pressure), in_flight=0)
        after = step(state, reading, TARGET, 1000.0 + second)
        assert after.engaged == state.engaged
        state = after


# A policy under a factor

loads = st.builds(
    LoadRule,
    latency_target_ms=st.just(TARGET),
    threshold_floor=st.floats(-1, 1),
    ttl_ceiling=st.integers(0, 10**6).map(lambda s: timedelta(seconds=s)),
)
policies = st.builds(
    Policy,
    name=st.just("a"),
    hit_threshold=st.floats(-1, 1),
    near_threshold=st.floats(-1, 1),
    ttl=st.floats(0, 10**6).map(lambda s: timedelta(seconds=s)),
    error_budget=st.none() | st.just(0.02),
    load=st.none() | loads,
)


def ordered(policy: Policy) -> Policy:
    """The same policy with its pairs in the order that a policies file must have them in."""
    near = min(policy.near_threshold, policy.hit_threshold)
    rule = policy.load
    if rule is not None:
        rule = replace(
            rule,
            threshold_floor=min(rule.threshold_floor, policy.hit_threshold),
            ttl_ceiling=max(rule.ttl_ceiling, policy.ttl),
        )
    return replace(policy, near_threshold=near, load=rule)


@given(policies.map(ordered), shares)
def test_an_adapted_policy_stays_between_base_and_bounds(policy: Policy, factor: float) -> None:
    bent = adapted(policy, factor)
    floor = policy.load.threshold_floor if policy.load else policy.hit_threshold
    ceiling = policy.load.ttl_ceiling if policy.load else policy.ttl
    assert floor <= bent.hit_threshold <= policy.hit_threshold
    assert policy.ttl <= bent.ttl <= ceiling
    assert bent.near_threshold <= bent.hit_threshold
    unbent = {name: getattr(policy, name) for name in ("hit_threshold", "near_threshold", "ttl")}
    assert replace(bent, **unbent) == policy  # nothing else moves


@given(policies.map(ordered), shares, shares)
def test_a_higher_factor_bends_at_least_as_far(policy: Policy, a: float, b: float) -> None:
    less, more = (adapted(policy, factor) for factor in sorted((a, b)))
    assert more.hit_threshold <= less.hit_threshold
    assert more.ttl >= less.ttl


@given(policies, shares)
def test_a_floor_above_the_threshold_or_a_ceiling_below_the_lifetime_is_ignored(
    policy: Policy, factor: float
) -> None:
    bent = adapted(policy, factor)
    assert bent.hit_threshold <= policy.hit_threshold
    assert bent.ttl >= policy.ttl


@pytest.mark.parametrize("factor", [0.0, -0.5, math.nan, 0.0004])
def test_without_a_factor_it_is_the_very_same_policy(factor: float) -> None:
    assert adapted(POLICY, factor) is POLICY


def test_without_a_load_section_it_is_the_very_same_policy() -> None:
    fixed = replace(POLICY, load=None)
    assert adapted(fixed, 1.0) is fixed


def test_a_rule_without_room_leaves_the_very_same_policy() -> None:
    rigid = replace(POLICY, load=LoadRule(
        latency_target_ms=TARGET, threshold_floor=POLICY.hit_threshold, ttl_ceiling=POLICY.ttl
    ))  # fmt: skip
    assert adapted(rigid, 1.0) is rigid


@pytest.mark.parametrize(
    ("factor", "threshold", "near", "ttl"),
    [
        pytest.param(0.5, 0.885, 0.885, 2 * HOUR, id="half way"),
        pytest.param(1.0, 0.85, 0.85, 3 * HOUR, id="all the way"),
        pytest.param(0.9999, 0.85, 0.85, 3 * HOUR, id="as good as all the way"),
        pytest.param(7.0, 0.85, 0.85, 3 * HOUR, id="never beyond"),
        pytest.param(0.1, 0.913, 0.9, timedelta(minutes=72), id="near stays where it has room"),
    ],
)
def test_threshold_and_lifetime_follow_the_factor(
    factor: float, threshold: float, near: float, ttl: timedelta
) -> None:
    bent = adapted(POLICY, factor)
    assert bent.hit_threshold == pytest.approx(threshold)
    assert bent.near_threshold == pytest.approx(near)
    assert bent.ttl == ttl


def test_at_full_factor_floor_and_ceiling_hold_to_the_last_digit() -> None:
    odd = LoadRule(
        latency_target_ms=1, threshold_floor=0.1, ttl_ceiling=HOUR + timedelta(milliseconds=5)
    )
    bent = adapted(replace(POLICY, near_threshold=0.05, load=odd), 1.0)
    assert (bent.hit_threshold, bent.ttl) == (odd.threshold_floor, odd.ttl_ceiling)


def test_a_category_with_an_error_budget_keeps_its_threshold() -> None:
    bent = adapted(replace(POLICY, error_budget=0.02), 1.0)
    assert bent.hit_threshold == POLICY.hit_threshold
    assert bent.near_threshold == POLICY.near_threshold
    assert bent.ttl == 3 * HOUR


# The whole loop, simulated

MISSES_A_SECOND = 10.0
SAVED = 0.25  # share of the misses that full adaptation turns into hits


def simulated(capacity: list[float], adapts: bool) -> tuple[list[LoadState], float, float]:
    """Serve misses from a queue of so many answers a second; return states, calls, waiting.

    Answers take 200 ms when nobody waits; what waits shows as latency by Little's law.
    """
    state, waiting, calls, longest = LoadState(), 0.0, 0.0, 0.0
    times: list[tuple[float, float]] = []  # when, and how long
    states = []
    for second, rate in enumerate(capacity):
        arrived = MISSES_A_SECOND * (1 - SAVED * state.factor * adapts)
        calls += arrived
        waiting = max(0.0, waiting + arrived - rate)
        longest = max(longest, waiting)
        seconds = 0.2 + waiting / rate
        served = min(rate, arrived + waiting)
        for number in range(int(served)):
            times.append((second + number / served, seconds))
        recent = sorted(taken for at, taken in times if at > second + 1 - WINDOW)
        p95 = 1000 * recent[int(0.95 * (len(recent) - 1))] if len(recent) >= FEWEST else None
        reading = Reading(p95, in_flight=round(waiting + arrived * 0.2))
        state = step(state, reading, TARGET, second + 1)
        states.append(state)
    return states, calls, longest


OVERLOAD = [20.0] * 120 + [9.0] * 300 + [20.0] * 120


def test_a_simulated_overload_is_relieved_and_everything_comes_back() -> None:
    states, calls, longest = simulated(OVERLOAD, adapts=True)
    _, calls_without, longest_without = simulated(OVERLOAD, adapts=False)
    assert all(state.factor == 0 for state in states[:120])
    assert max(state.factor for state in states) > 0.4
    assert calls < calls_without
    assert longest < 0.5 * longest_without
    assert states[-1].factor == 0
    assert not states[-1].engaged


def test_a_simulated_overload_does_not_make_it_flap() -> None:
    states, _, _ = simulated(OVERLOAD, adapts=True)
    flags = [state.engaged for state in states]
    changes = sum(a != b for a, b in zip(flags, flags[1:], strict=False))
    assert changes <= 2 * 300 / 60  # a cycle of engaging and letting go takes a minute at least


def test_a_simulated_calm_day_never_bends_anything() -> None:
    states, _, _ = simulated([20.0] * 600, adapts=True)
    assert all(adapted(POLICY, state.factor) is POLICY for state in states)
