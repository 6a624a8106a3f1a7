"""The router holds the floor, loses little beside the best arm, and notices when that changes."""

from __future__ import annotations

from statistics import mean

import pytest

from icl.arms import Arm
from tests.icl.bandit_world import (
    BROKEN,
    GOOD,
    World,
    opened,
    router,
    share,
    sloped,
    state,
    steady,
    taught,
)

SEEDS = range(3)


# --- the floor ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("floor", [0.6, 0.75, 0.85])
@pytest.mark.parametrize("quality", [0.5, 0.83, 0.95])
def test_the_mean_quality_of_all_answers_holds_the_floor(floor: float, quality: float) -> None:
    world = World(arms={Arm.EXAMPLES: steady(quality), Arm.SMALL: steady(0.1)}, floor=floor)
    served = world.serve(router(), 1500)
    assert mean(one.quality for one in served) >= floor


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("floor", "quality", "delay", "slope"),
    [
        pytest.param(0.6, 0.83, 5, 0.0, id="floor 0.6"),
        pytest.param(0.85, 0.95, 5, 0.0, id="floor 0.85"),
        pytest.param(0.6, 0.83, 25, 0.0, id="late judgements"),
        pytest.param(0.6, 0.8, 5, 0.4, id="quality by request"),
    ],
)
def test_a_small_model_that_breaks_is_left_within_200_requests(
    floor: float, quality: float, delay: int, slope: float, seed: int
) -> None:
    arms = {Arm.EXAMPLES: sloped(quality, slope), Arm.SMALL: steady(0.1)}
    world = World(arms=arms, floor=floor, delay=delay, seed=seed, exploration=0.05)
    known = opened(world, seed)
    before = world.serve(known, 400)
    assert share(before[200:]) > 0.5
    judged = mean(one.audited for one in before if one.offloaded)
    assert judged < 0.4
    world.arms = BROKEN
    after = world.serve(known, 600)
    assert share(after[150:200]) <= 0.15
    assert share(after[200:]) <= 0.1
    assert state(known) == "back"


def test_a_fall_in_one_category_makes_the_others_watchful() -> None:
    code, chat = World(arms=GOOD, exploration=0.0), World(arms=GOOD, category="chat", seed=1)
    known = opened(code)
    known.choose(chat.situation(chat.request()))
    for _ in range(60):
        known.learn(chat.observe(Arm.EXAMPLES, 1.0))
    situation = code.situation(code.request())
    before = known.choose(situation).audit
    for _ in range(12):
        known.learn(chat.observe(Arm.EXAMPLES, 0.0))
    known.learn(code.observe(Arm.EXAMPLES, 1.0))
    after = known.choose(situation)
    assert after.arm is Arm.EXAMPLES
    assert after.audit > before


def test_a_lower_floor_lets_an_arm_in_that_a_higher_one_kept_out() -> None:
    arms = {Arm.EXAMPLES: steady(0.75), Arm.SMALL: steady(0.1)}
    shares = [share(World(arms=arms, floor=f).serve(router(), 1200)[600:]) for f in (0.5, 0.9)]
    assert shares[0] > 0.6
    assert shares[1] < 0.15


# --- regret beside the best arm -------------------------------------------------------------


@pytest.mark.slow
def test_regret_in_a_steady_world_grows_ever_slower() -> None:
    thirds = [0.0, 0.0, 0.0]
    for seed in SEEDS:
        world = World(arms=GOOD, exploration=0.0, seed=seed)
        served = world.serve(taught(router(seed), world), 3000)
        for third in range(3):
            part = served[1000 * third : 1000 * (third + 1)]
            thirds[third] += sum(one.regret for one in part) / len(SEEDS)
    # Always asking the requested model loses 0.19 a request, 570 in all.
    assert sum(thirds) < 45
    assert thirds[2] < 0.7 * thirds[0]


@pytest.mark.slow
def test_learning_from_nothing_costs_a_fraction_of_never_learning() -> None:
    total = 0.0
    for seed in SEEDS:
        served = World(arms=GOOD, seed=seed).serve(router(seed), 3000)
        total += sum(one.regret for one in served) / len(SEEDS)
    assert total < 0.3 * 3000 * 0.19


@pytest.mark.slow
def test_the_context_tells_which_requests_the_small_model_is_good_at() -> None:
    world = World(arms={Arm.EXAMPLES: sloped(0.7, 0.6), Arm.SMALL: steady(0.1)}, exploration=0.1)
    served = world.serve(opened(world), 2500)[500:]
    blind = World(arms=world.arms, seed=9)
    average = mean(blind.quality(Arm.EXAMPLES, blind.request()) for _ in range(2000))
    chosen = [one.quality for one in served if one.offloaded and not one.choice.explored]
    assert mean(chosen) > average + 0.04


@pytest.mark.slow
def test_when_the_good_arm_and_the_bad_one_change_places_the_router_follows() -> None:
    arms = {Arm.EXAMPLES: steady(0.85), Arm.SMALL: steady(0.1)}
    for seed in range(2):
        world = World(arms=arms, exploration=0.1, seed=seed)
        known = router(seed)
        world.serve(known, 1500)
        world.arms = {Arm.EXAMPLES: arms[Arm.SMALL], Arm.SMALL: arms[Arm.EXAMPLES]}
        after = world.serve(known, 2300)
        assert mean(one.choice.arm is Arm.SMALL for one in after[1500:]) > 0.6


@pytest.mark.slow
def test_a_small_model_that_is_repaired_is_used_again() -> None:
    world = World(arms=BROKEN, exploration=0.1)
    known = router()
    world.serve(known, 1500)
    world.arms = GOOD
    assert share(world.serve(known, 1500)[1000:]) > 0.6
