"""All categories together: made when asked for, kept apart, and the same after a restart."""

from __future__ import annotations

import json

import pytest

from store.decision.budget_values import Sample
from store.decision.budgets import Budgets


def shipped(category: str, budget: float) -> float:
    return budget * 5


def budgets(judge: str = "judge-1") -> Budgets:
    return Budgets(shipped, judge=judge)


def close(all: Budgets, category: str, budget: float = 0.01) -> None:
    for _ in range(200):
        all.controlled(category, budget, wrong=False)
    for _ in range(200):
        sample = all.sample(category, budget)
        all.audited(category, budget, sample, risk=0.0, wrong=True)


def test_each_category_has_a_point_of_its_own() -> None:
    all = budgets()
    assert all.point("fares", 0.01) == 0.05
    assert all.point("tides", 0.02) == 0.1
    close(all, "fares")
    assert all.point("fares", 0.01) == 0.0
    assert all.point("tides", 0.02) == 0.1


def test_another_budget_begins_anew() -> None:
    all = budgets()
    close(all, "fares")
    assert all.point("fares", 0.02) == 0.1
    assert all.standing("fares", 0.02).audits == 0


def test_what_is_known_outlives_a_restart() -> None:
    all = budgets()
    close(all, "fares")
    all.complained("tides", 0.02)
    again = budgets()
    assert again.load({name: all.dump(name) for name in ("fares", "tides")}) == []
    assert again.standing("fares", 0.01) == all.standing("fares", 0.01)
    assert again.point("tides", 0.02) == 0.05


def test_a_category_that_nobody_asked_for_has_no_state() -> None:
    assert budgets().dump("fares") == ""


def test_another_judge_keeps_the_point_and_forgets_the_verdicts() -> None:
    all = budgets()
    close(all, "fares")
    again = budgets("judge-2")
    again.load({"fares": all.dump("fares")})
    standing = again.standing("fares", 0.01)
    assert (standing.point, standing.controls) == (0.0, 0)


def test_a_calibration_that_ships_another_point_begins_anew() -> None:
    all = budgets()
    close(all, "fares")
    close(all, "tides", 0.02)
    again = Budgets(lambda category, budget: 0.2, judge="judge-1")
    again.load({"fares": all.dump("fares")})
    assert again.point("fares", 0.01) == 0.2
    all.ship(lambda category, budget: 0.05 if budget == 0.01 else 0.3)
    assert all.point("fares", 0.01) == 0.0  # for this budget it ships what it did
    assert all.point("tides", 0.02) == 0.3


def test_a_verdict_on_a_hit_of_the_calibration_before_says_nothing_of_the_new_points() -> None:
    all = budgets()
    under_way = all.sample("fares", 0.01)
    all.ship(lambda category, budget: 0.2)
    all.audited("fares", 0.01, under_way, risk=0.01, wrong=True)
    assert all.standing("fares", 0.01).error.estimate is None
    all.audited("fares", 0.01, all.sample("fares", 0.01), risk=0.01, wrong=True)
    assert all.standing("fares", 0.01).error.estimate is not None


@pytest.mark.parametrize("state", ["", "{", "[]", "{}", '{"judge": "x"}', "null"])
def test_a_state_that_cannot_be_read_is_named_and_begins_anew(state: str) -> None:
    all = budgets()
    assert all.load({"fares": state}) == ["fares"]
    assert all.point("fares", 0.01) == 0.05


def test_categories_that_are_gone_are_forgotten() -> None:
    all = budgets()
    close(all, "fares")
    close(all, "tides")
    all.keep(["tides", "other"])
    assert all.dump("fares") == ""
    assert json.loads(all.dump("tides"))["audits"] > 0


def test_without_a_judge_hits_that_nobody_complains_about_take_complaints_back() -> None:
    for judge, after in (("", 0.05), ("judge-1", 0.025)):
        all = budgets(judge)
        all.complained("fares", 0.01)
        assert all.point("fares", 0.01) == 0.025
        for _ in range(600):
            all.served("fares", 0.01)
        assert all.point("fares", 0.01) == after


def test_where_a_category_is_not_audited_its_hits_take_complaints_back_beside_a_judge_too() -> None:
    all = budgets("judge-1")
    all.complained("fares", 0.01)
    for _ in range(600):
        all.served("fares", 0.01, audited=False)
    assert all.point("fares", 0.01) == 0.05


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.1, float("nan")])
def test_a_verdict_that_cannot_be_weighed_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="sampling probability"):
        budgets().audited("fares", 0.01, Sample(probability, 0.05, 1), risk=0.1, wrong=False)
