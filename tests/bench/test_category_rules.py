"""The rules that tell categories, on a plane where one can see who is near whom."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.category_rules import (
    CERTAINTIES,
    RULES,
    UNSEEN,
    Draw,
    bar_for,
    centroid,
    draw,
    floor,
    kernel,
    margin,
    nearest,
    outcome,
    own_outcome,
    prototypes_of,
)


def circle(*degrees: float) -> npt.NDArray[np.float32]:
    return np.array(
        [[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees], np.float32
    )


# North is told by three examples close together and one aside, east by one.
GIVEN = Draw(
    examples=circle(88, 90, 92, 50, 0),
    owners=np.array([0, 0, 0, 0, 1]),
    names=("north", "east"),
    queries=circle(91, 5, 40, 230),
    labels=np.array([0, 1, 1, UNSEEN]),
)


def test_every_rule_tells_what_lies_among_a_category_s_examples() -> None:
    for rule in RULES.values():
        assert rule(GIVEN).shape == (4, 2)
        assert rule(GIVEN)[:2].argmax(axis=1).tolist() == [0, 1]


def test_the_nearest_example_hears_a_single_one_and_the_mean_of_three_does_not() -> None:
    at_40 = 2
    assert nearest(1)(GIVEN)[at_40].argmax() == 0
    assert nearest(3)(GIVEN)[at_40].argmax() == 1
    assert centroid(GIVEN)[at_40].argmax() == 1


def test_a_category_with_fewer_examples_than_are_asked_for_uses_all_of_them() -> None:
    scores = nearest(3)(GIVEN)
    assert scores[1, 1] == pytest.approx(math.cos(math.radians(5)), abs=1e-6)


def test_the_kernel_is_the_proxy_s_own_rule() -> None:
    prototypes = prototypes_of(GIVEN)
    assert kernel(GIVEN).argmax(axis=1).tolist() == [
        int(prototypes.scores(query).argmax()) for query in GIVEN.queries
    ]
    assert [prototypes.classify(query) for query in GIVEN.queries[[0, 1, 3]]] == [
        "north",
        "east",
        "default",
    ]


def test_certainties() -> None:
    scores = np.array([[0.9, 0.5, 0.8], [0.2, 0.7, 0.1]], np.float32)
    assert floor(scores) == pytest.approx([0.9, 0.7])
    assert margin(scores) == pytest.approx([0.1, 0.5])
    assert CERTAINTIES["floor + margin / 2"](scores) == pytest.approx([0.95, 0.95])


def test_what_becomes_of_the_queries() -> None:
    scores = np.array([[0.9, 0], [0.8, 0], [0, 0.3], [0, 0.6], [0.4, 0]], np.float32)
    labels = np.array([0, 1, 1, UNSEEN, UNSEEN])
    result = outcome(scores, floor(scores), labels, 0.5)
    assert result.accuracy == pytest.approx(1 / 3)  # one right, one strayed, one to none
    assert result.strayed == pytest.approx(1 / 3)
    assert result.recall == 0.5


def test_without_queries_out_of_scope_there_is_no_recall() -> None:
    inside = replace(GIVEN, queries=GIVEN.queries[:3], labels=GIVEN.labels[:3])
    assert math.isnan(own_outcome(inside).recall)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=60), st.floats(0.05, 0.95))
def test_a_bar_keeps_out_the_share_that_it_was_made_for(sure: list[float], recall: float) -> None:
    labels = np.full(len(sure), UNSEEN)
    sureness = np.array(sure, np.float32)
    bar = bar_for(sureness, labels, recall)
    assert (sureness <= bar).mean() >= recall - 1 / len(sure)
    assert (sureness < bar).mean() <= recall + 1 / len(sure)


def test_a_higher_bar_only_ever_sends_more_to_the_default() -> None:
    results = [own_outcome(GIVEN, ratio) for ratio in (0.1, 1.0, 10.0, 100.0)]
    assert [r.recall for r in results] == sorted(r.recall for r in results)
    assert [r.accuracy for r in results] == sorted((r.accuracy for r in results), reverse=True)
    assert results[-1].accuracy == results[-1].strayed == 0


KINDS = ["bank"] * 8 + ["food"] * 8 + ["oos"] * 5
INTENTS = (["loan"] * 6 + ["card"] * 2) + (["soup"] * 4 + ["cake"] * 4) + ["oos"] * 5
VECTORS = circle(*range(21))


def test_examples_are_taken_out_of_the_queries() -> None:
    given = draw(VECTORS, KINDS, INTENTS, frozenset({"oos"}), each=3, seed=1)
    assert given.names == ("bank", "food")
    assert given.owners.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(given.queries) == 21 - 6
    assert (given.labels == UNSEEN).sum() == 5
    shown = {tuple(row) for row in given.examples.tolist()}
    assert not shown & {tuple(row) for row in given.queries.tolist()}
    for row, owner in zip(given.examples, given.owners, strict=True):
        place = int(np.flatnonzero((row == VECTORS).all(axis=1))[0])
        assert KINDS[place] == given.names[owner]


def test_a_draw_is_the_same_for_the_same_seed_only() -> None:
    same = [draw(VECTORS, KINDS, INTENTS, frozenset(), each=3, seed=s) for s in (1, 1, 2)]
    assert (same[0].examples == same[1].examples).all()
    assert not (same[0].examples == same[2].examples).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_spread_draw_takes_from_every_intent(seed: int) -> None:
    given = draw(VECTORS, KINDS, INTENTS, frozenset({"oos"}), each=2, seed=seed, spread=True)
    places = [int(np.flatnonzero((row == VECTORS).all(axis=1))[0]) for row in given.examples]
    assert {INTENTS[place] for place in places} == {"loan", "card", "soup", "cake"}
