"""What the router learnt is the same however it came, and survives."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from statistics import mean
from typing import Any

import pytest

from icl.arms import Arm, Observation
from icl.context import SIZE
from icl.router import Router, Tuning
from tests.icl.bandit_world import (
    GOOD,
    World,
    opened,
    router,
    share,
)


def observations(world: World, count: int) -> list[Observation]:
    draw = random.Random(world.seed)
    return [
        world.observe(arm, float(draw.random() < world.quality(arm, (0.0,))))
        for arm in draw.choices([Arm.EXAMPLES, Arm.SMALL], k=count)
    ]


def test_the_same_observations_in_the_same_order_make_the_same_router() -> None:
    one, other = router(1), router(2)
    for observation in observations(World(arms=GOOD), 200):
        one.learn(observation)
        other.learn(Observation.from_bytes(observation.to_bytes()))
    assert one.as_data() == other.as_data()


def test_the_same_observations_in_another_order_make_nearly_the_same_router() -> None:
    seen = observations(World(arms=GOOD), 100)
    mixed = seen.copy()
    random.Random(5).shuffle(mixed)
    one, other = router(1), router(2)
    for observation, another in zip(seen, mixed, strict=True):
        one.learn(observation)
        other.learn(another)
    for row, also in zip(one.standings(), other.standings(), strict=True):
        assert row["n"] == pytest.approx(also["n"], rel=0.05)
        assert row["quality"] == pytest.approx(also["quality"], abs=0.06)
    world = World(arms=GOOD, seed=3)
    apart = list[float]()
    for _ in range(50):
        situation = world.situation(world.request())
        here, there = one.choose(situation).scores, other.choose(situation).scores
        apart += [abs(here[arm] - there[arm]) for arm in Arm]
    assert mean(apart) < 0.05
    assert max(apart) < 0.2


def test_a_router_survives_as_json() -> None:
    world = World(arms=GOOD)
    known = router(4)
    world.serve(known, 600)
    data = json.loads(json.dumps(known.as_data()))
    copy = Router.from_data(data, draw=random.Random(7))
    assert copy.standings() == known.standings()
    situation = world.situation(world.request())
    expected = known.choose(situation).scores
    assert copy.choose(situation).scores == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"version": 0}, id="another version"),
        pytest.param({"size": SIZE + 1}, id="another context"),
        pytest.param({"standings": [["code", "tiny", {}]]}, id="broken standing"),
        pytest.param({"shared": [["tiny", "large", []]]}, id="unknown arm"),
        pytest.param({"shared": [["tiny", "small", [1.0]]]}, id="broken regression"),
        pytest.param({"standings": 3}, id="no list"),
    ],
)
def test_data_that_cannot_be_read_makes_a_new_router(changed: dict[str, Any]) -> None:
    world = World(arms=GOOD)
    data = opened(world).as_data() | changed
    assert Router.from_data(data, draw=random.Random()).standings() == []


@pytest.mark.parametrize("data", [None, [], "x", {}])
def test_anything_else_makes_a_new_router(data: object) -> None:
    assert Router.from_data(data, draw=random.Random()).standings() == []


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"context": (1.0,)}, id="a context of another size"),
        pytest.param({"arm": Arm.REQUESTED}, id="the requested model's own answer"),
        pytest.param({"weight": 0.0}, id="no weight"),
    ],
)
def test_what_cannot_be_learnt_from_is_passed_over(changed: dict[str, Any]) -> None:
    known = router()
    known.learn(replace(World(arms=GOOD).observe(Arm.SMALL, 1.0), **changed))
    assert known.standings() == []


def test_only_so_many_categories_are_known_and_who_learnt_longest_ago_leaves() -> None:
    known = Router(settings=Tuning(most=3), draw=random.Random(0))
    for category in ("a", "b", "a", "c", "d"):
        known.learn(World(arms=GOOD, category=category).observe(Arm.SMALL, 1.0))
    assert [row["category"] for row in known.standings()] == ["a", "a", "c", "c", "d", "d"]


def test_categories_that_are_gone_can_be_forgotten() -> None:
    known = router()
    for category in ("a", "b"):
        known.learn(World(arms=GOOD, category=category).observe(Arm.SMALL, 1.0))
    known.keep({"b"})
    assert {row["category"] for row in known.standings()} == {"b"}


def test_a_new_category_starts_from_what_others_have_in_common() -> None:
    known, fresh = opened(World(arms=GOOD)), World(arms=GOOD, category="chat")
    scores = [
        one.choose(fresh.situation(fresh.request())).scores[Arm.EXAMPLES]
        for one in (known, router())
    ]
    assert scores[0] > scores[1] + 0.2


def test_standings_tell_people_how_things_are() -> None:
    world = World(arms=GOOD)
    known = opened(world)
    served = world.serve(known, 300)
    row = known.standings()[0]
    assert (row["category"], row["small"], row["arm"]) == ("code", "tiny", "examples")
    assert 0.0 <= row["lower"] <= row["quality"] <= row["upper"] <= 1.0
    assert row["share"] == pytest.approx(share(served[100:]), abs=0.1)
