"""The router chooses among the arms that it may, and asks for audits where they tell."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from statistics import mean

import pytest

from icl.arms import Arm
from tests.icl.bandit_world import (
    GOOD,
    POOR,
    Quality,
    World,
    opened,
    router,
    share,
    sloped,
    state,
    steady,
    taught,
)


def test_a_new_category_gets_the_share_of_exploration_alone() -> None:
    world = World(arms=POOR, exploration=0.1)
    served = world.serve(router(), 1000)
    assert share(served) == pytest.approx(0.1, abs=0.03)
    assert all(one.choice.explored for one in served if one.offloaded)


def test_without_exploration_nothing_is_tried() -> None:
    served = World(arms=GOOD, exploration=0.0).serve(router(), 500)
    assert share(served) == 0.0
    assert not any(one.choice.explored for one in served)


def test_without_exploration_an_arm_opens_by_what_is_learnt_elsewhere() -> None:
    world = World(arms=GOOD, exploration=0.0)
    assert share(world.serve(taught(router(), world), 500)) > 0.8


def test_examples_are_not_chosen_where_there_are_none() -> None:
    world = World(arms=GOOD, exploration=0.5, examples=0)
    served = world.serve(opened(World(arms=GOOD)), 300)
    assert all(one.choice.arm is not Arm.EXAMPLES for one in served)
    assert all(Arm.EXAMPLES not in one.choice.scores for one in served)


@pytest.mark.parametrize(("examples", "arm"), [(2, Arm.EXAMPLES), (0, Arm.REQUESTED)])
def test_where_nobody_judges_examples_decide(examples: int, arm: Arm) -> None:
    world, known = World(arms=GOOD, examples=examples, exploration=0.5), router()
    for _ in range(50):
        choice = known.choose(replace(world.situation(world.request()), judged=False))
        assert (choice.arm, choice.probability, choice.audit) == (arm, 1.0, 0.0)
    assert state(known) == "unjudged"


def test_a_context_of_another_size_is_refused() -> None:
    world = World(arms=GOOD)
    with pytest.raises(ValueError, match="context"):
        router().choose(replace(world.situation(world.request()), context=(1.0,)))


def test_a_favourite_leaves_at_least_the_share_of_exploration_to_others() -> None:
    world = World(arms={Arm.EXAMPLES: steady(1.0), Arm.SMALL: steady(0.2)}, exploration=0.2)
    served = world.serve(opened(world), 2000)
    others = mean(one.choice.arm is not Arm.EXAMPLES for one in served)
    assert others == pytest.approx(0.2, abs=0.04)


def test_arms_are_chosen_as_often_as_their_probability_says() -> None:
    world = World(arms=GOOD, exploration=0.2)
    known = taught(router(), world)
    situation = world.situation(world.request())
    choices = [known.choose(situation) for _ in range(8000)]
    drawn = Counter(choice.arm for choice in choices)
    said = {choice.arm: choice.probability for choice in choices}
    assert len(drawn) == 3
    for arm, count in drawn.items():
        assert count / len(choices) == pytest.approx(said[arm], abs=0.02)


def test_load_shifts_traffic_to_the_small_model_and_leaves_the_floor() -> None:
    shares = list[float]()
    for load in (0.0, 3.0):
        world = World(arms={Arm.EXAMPLES: sloped(0.7, 0.5), Arm.SMALL: steady(0.1)}, load=load)
        served = world.serve(opened(world), 600)
        shares.append(share(served))
        assert mean(one.quality for one in served) >= world.floor
    assert shares[1] > shares[0] + 0.05


def test_load_does_not_open_an_arm_that_is_under_the_floor() -> None:
    served = World(arms=POOR, load=50.0, exploration=0.05).serve(router(), 600)
    assert share(served) < 0.1


def test_a_price_as_high_as_the_requested_models_leaves_nothing_to_gain() -> None:
    dear, cheap = (World(arms=GOOD, price=price, exploration=0.0) for price in (1.0, 0.0))
    assert share(dear.serve(opened(dear), 300)) < 0.5 < share(cheap.serve(opened(cheap), 300))


# --- audits ---------------------------------------------------------------------------------


def test_every_answer_on_trial_is_judged() -> None:
    served = World(arms=POOR, exploration=0.2).serve(router(), 300)
    assert {one.choice.audit for one in served if one.offloaded} == {1.0}


def test_a_trusted_arm_is_judged_seldom_but_never_not_at_all() -> None:
    world = World(arms=GOOD)
    served = world.serve(opened(world), 500)
    audits = [one.choice.audit for one in served if one.choice.arm is Arm.EXAMPLES]
    assert 0.05 <= min(audits)
    assert mean(audits) < 0.3


def test_the_requested_model_needs_no_judge() -> None:
    served = World(arms=POOR).serve(router(), 200)
    assert {one.choice.audit for one in served if not one.offloaded} == {0.0}


def test_a_bad_answer_raises_the_rate_of_audits() -> None:
    world = World(arms=GOOD, exploration=0.0)
    known = opened(world)
    situation = world.situation(world.request())
    before = known.choose(situation)
    known.learn(world.observe(Arm.EXAMPLES, 0.0))
    after = known.choose(situation)
    assert after.arm is before.arm is Arm.EXAMPLES
    assert after.audit > before.audit + 0.1


def test_scores_that_are_close_make_the_router_unsure() -> None:
    close = World(arms=GOOD, floor=0.9, exploration=0.0)
    apart = World(arms=GOOD, floor=0.5, exploration=0.0)
    unsure = [w.serve(opened(w), 20)[0].choice for w in (close, apart)]
    assert [choice.unsure for choice in unsure] == [True, False]


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("arms", [GOOD, POOR])
def test_whom_the_router_favours_is_told_without_a_draw_and_changes_nothing(
    arms: dict[Arm, Quality], judged: bool
) -> None:
    world = World(arms=arms, exploration=0.2)
    known = taught(router(), world)
    situation = replace(world.situation(world.request()), judged=judged)
    before = json.dumps(known.as_data())
    favour = known.favour(situation)
    assert json.dumps(known.as_data()) == before
    assert sum(favour.chances.values()) == pytest.approx(1.0, abs=1e-4)
    for _ in range(50):
        choice = known.choose(situation)
        assert favour.chances[choice.arm] == pytest.approx(choice.probability, abs=1e-4)
        assert favour.scores == pytest.approx(dict(choice.scores), abs=1e-5)
    assert (favour.favourite is not Arm.REQUESTED) is (arms is GOOD or not judged)


def test_of_what_it_does_not_know_nothing_is_begun_by_asking() -> None:
    world, known = World(arms=GOOD), router()
    assert known.favour(world.situation(world.request())).favourite is Arm.REQUESTED
    assert known.standings() == [] and known.as_data()["shared"] == []
