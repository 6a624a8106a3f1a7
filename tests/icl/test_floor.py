"""An arm is trusted by its record alone, falls when the record does, and returns by a new one."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.floor import Guard, State

QUALITIES = st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.05, 20.0)), max_size=80)


def guard(floor: float | None = 0.6) -> Guard:
    made = Guard(memory=120.0)
    if floor is not None:
        made.hold_to(floor)
    return made


def teach(learner: Guard, quality: float, times: int, seed: int = 0, at: float = 0.0) -> int:
    """Teach answers that are right with the given probability; how many until it fell."""
    draw = random.Random(seed)
    for number in range(1, times + 1):
        if learner.learn(float(draw.random() < quality), 1.0, at + number):
            return number
    return 0


def state_of(learner: Guard) -> State:
    return learner.state


def trusted(floor: float = 0.6) -> Guard:
    made = guard(floor)
    teach(made, 1.0, 60)
    assert state_of(made) is State.OPEN
    return made


def test_a_few_good_answers_are_too_little_evidence() -> None:
    new = guard()
    teach(new, 1.0, 5)
    assert state_of(new) is State.TRIAL


def test_enough_good_answers_open_it() -> None:
    new = guard()
    teach(new, 1.0, 10)
    assert state_of(new) is State.OPEN


def test_an_arm_that_fell_while_the_clock_was_ahead_learns_once_it_is_right_again() -> None:
    learner = guard()
    teach(learner, 1.0, 60, at=4e9)  # the year 2096
    assert teach(learner, 0.0, 60, at=4e9 + 60) > 0
    assert state_of(learner) is State.BACK
    teach(learner, 1.0, 200, at=1.9e9)
    assert state_of(learner) is State.OPEN


def test_an_arm_that_is_vouched_for_opens_sooner_but_not_by_nothing() -> None:
    states = list[State]()
    for vouched in (False, True):
        new = guard()
        for at in range(4):
            new.learn(1.0, 1.0, float(at), vouched=vouched)
            states.append(new.state)
    assert states == [State.TRIAL] * 7 + [State.OPEN]


def test_nobody_vouches_for_an_arm_that_fell() -> None:
    fallen = trusted()
    teach(fallen, 0.0, 20, at=100.0)
    for at in range(4):
        fallen.learn(1.0, 1.0, 1000.0 + at, vouched=True)
    assert state_of(fallen) is State.BACK


def test_a_higher_floor_takes_more_evidence() -> None:
    needed = {floor: next(n for n in range(200) if opened(floor, n)) for floor in (0.6, 0.9, 0.97)}
    assert needed[0.6] < needed[0.9] < needed[0.97]


def opened(floor: float, good: int) -> bool:
    made = guard(floor)
    teach(made, 1.0, good)
    return made.state is State.OPEN


@pytest.mark.parametrize("seed", range(10))
def test_an_arm_well_under_the_floor_does_not_open(seed: int) -> None:
    poor = guard()
    teach(poor, 0.2, 300, seed)
    assert state_of(poor) is State.TRIAL


@pytest.mark.parametrize("floor", [0.6, 0.85])
def test_an_arm_that_fails_every_time_falls_within_eight_audits(floor: float) -> None:
    assert 0 < teach(trusted(floor), 0.0, 20, at=100.0) <= 8


def test_an_arm_slightly_under_the_floor_falls_in_time() -> None:
    assert all(teach(trusted(), 0.45, 300, seed, at=100.0) for seed in range(10))


def test_an_arm_well_above_the_floor_seldom_falls() -> None:
    assert sum(teach(trusted(), 0.83, 500, seed, at=100.0) > 0 for seed in range(20)) <= 1


def test_after_a_fall_it_returns_by_new_evidence_alone() -> None:
    fallen = trusted()
    teach(fallen, 0.0, 20, at=100.0)
    assert state_of(fallen) is State.BACK
    teach(fallen, 1.0, 50, at=-1000.0)  # answers given before the fall
    assert state_of(fallen) is State.BACK
    teach(fallen, 1.0, 20, at=1000.0)
    assert state_of(fallen) is State.OPEN


def test_a_bad_answer_raises_doubt_and_good_ones_take_it_away() -> None:
    arm = trusted()
    assert arm.doubt == 0.0
    arm.learn(0.0, 1.0, 100.0)
    doubt = arm.doubt
    assert 0.0 < doubt < 0.5
    arm.learn(0.0, 1.0, 101.0)
    assert arm.doubt > doubt
    teach(arm, 1.0, 5, at=102.0)
    assert arm.doubt == 0.0


def test_an_alarm_makes_a_fall_quicker() -> None:
    calm, alarmed = trusted(), trusted()
    alarmed.alarm()
    assert teach(alarmed, 0.0, 20, at=100.0) < teach(calm, 0.0, 20, at=100.0)


def test_a_floor_that_is_raised_above_the_record_shuts_the_arm() -> None:
    arm = guard()
    teach(arm, 0.75, 100, seed=2)
    assert state_of(arm) is State.OPEN
    arm.hold_to(0.9)
    assert state_of(arm) is State.BACK


def test_what_was_told_before_a_floor_is_known_counts_once_it_is() -> None:
    told = guard(None)
    teach(told, 1.0, 20)
    assert state_of(told) is State.TRIAL
    told.hold_to(0.6)
    assert state_of(told) is State.OPEN


def test_failures_told_before_a_floor_is_known_keep_it_shut() -> None:
    told = guard(None)
    teach(told, 1.0, 100)
    teach(told, 0.0, 12, at=100.0)
    told.hold_to(0.6)
    assert state_of(told) is not State.OPEN


def test_one_heavy_audit_does_not_outshout_the_rest() -> None:
    arm = trusted()
    arm.learn(0.0, 1000.0, 100.0)
    assert arm.estimate().mean > 0.9


def test_weights_correct_for_audits_that_seek_the_poor() -> None:
    # Half the answers are poor; those are audited twice as often as the good.
    arm, draw = guard(), random.Random(5)
    for at in range(4000):
        good = draw.random() < 0.5
        audit = 0.4 if good else 0.8
        if draw.random() < audit:
            arm.learn(float(good), 1.0 / audit, float(at))
    assert arm.estimate().lower < 0.5 < arm.estimate().upper


@given(QUALITIES, st.floats(0.0, 1.0))
def test_an_estimate_is_within_its_interval(seen: list[tuple[float, float]], floor: float) -> None:
    arm = guard(floor)
    for at, (quality, weight) in enumerate(seen):
        arm.learn(quality, weight, float(at))
        known = arm.estimate()
        assert 0.0 <= known.lower <= known.mean <= known.upper <= 1.0
        assert 0.0 <= arm.doubt <= 1.0
        assert 0.0 <= arm.chance(floor) <= 1.0


@given(QUALITIES, st.floats(0.0, 1.0))
def test_a_record_survives_as_data(seen: list[tuple[float, float]], floor: float) -> None:
    arm, copy = guard(floor), Guard(memory=120.0)
    for at, (quality, weight) in enumerate(seen):
        arm.learn(quality, weight, float(at))
    copy.restore(json.loads(json.dumps(arm.as_data())))
    assert copy.state is arm.state
    assert copy.estimate() == arm.estimate()
    assert copy.doubt == arm.doubt


def test_a_sudden_rise_after_a_long_bad_time_is_noticed() -> None:
    arm = guard()
    teach(arm, 0.1, 300)
    assert state_of(arm) is State.TRIAL
    assert arm.estimate().upper < 0.3
    teach(arm, 1.0, 15, at=1000.0)
    assert state_of(arm) is State.OPEN


@pytest.mark.parametrize("seed", range(10))
def test_a_lucky_streak_of_a_poor_arm_is_no_rise(seed: int) -> None:
    arm = guard()
    teach(arm, 0.3, 300, seed)
    assert state_of(arm) is not State.OPEN
