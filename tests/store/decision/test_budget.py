"""One category: verdicts in, decision points out; simulations with fixed seeds, no proxy."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.decision.budget import CLOSED, GRID, MOST_STRAIN, START, CategoryBudget
from store.decision.budget_values import Sample

BUDGET, SHIPPED = 0.01, 0.05
Rate = Callable[[int, float], float]  # number of the query and risk, to P(wrong)


def feed(category: CategoryBudget, wrong: bool, times: int = 1, risk: float = 0.0005) -> None:
    for _ in range(times):
        category.audited(category.sample(), risk, wrong)


def control(category: CategoryBudget, times: int, alarms: int = 0) -> None:
    for number in range(times):
        category.controlled(number < alarms)


@dataclass
class Run:
    """What a simulated stream came to."""

    category: CategoryBudget
    served: int = 0
    wrong: int = 0
    audits: int = 0
    falls: tuple[int, ...] = ()  # at which query a point was refuted

    @property
    def error(self) -> float:
        return self.wrong / self.served


def simulate(
    rate: Rate, queries: int, *, seed: int, noise: float = 0.05, budget: float = BUDGET
) -> Run:
    """Ask queries of uniform risk from 0 to 0.1; the judge's verdicts are flipped with `noise`."""
    chance = random.Random(seed)
    run = Run(CategoryBudget.fresh(budget, SHIPPED))
    category = run.category
    for number in range(queries):
        if chance.random() < category.control_sampling:  # an exact hit beside each
            category.controlled(chance.random() < noise)
        risk = chance.random() / 10
        if risk > category.point:
            continue
        wrong = chance.random() < rate(number, risk)
        run.served, run.wrong = run.served + 1, run.wrong + wrong
        sample = category.sample()
        if chance.random() < sample.probability:
            falls = sum(category.refusals.values())
            category.audited(sample, risk, wrong != (chance.random() < noise))
            if sum(category.refusals.values()) > falls:
                run.falls += (number,)
    run.audits = category.audits
    return run


# -- what moves the point


def test_until_there_is_evidence_the_shipped_point_decides() -> None:
    category = CategoryBudget.fresh(BUDGET, 0.037)
    assert (category.point, category.state) == (0.037, "unproven")
    feed(category, wrong=False, times=50)
    assert (category.point, category.state) == (0.037, "unproven")
    assert category.standing().error.upper > BUDGET


def test_a_point_that_is_refuted_gives_way_to_the_next_that_is_not() -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    control(category, 100)
    rng = random.Random(1)
    while category.point == SHIPPED:
        risky = rng.random() < 0.5  # everything above 0.02 is wrong, nothing below
        feed(category, wrong=risky, risk=0.03 if risky else 0.01)
    assert category.point == 0.02
    standing = category.standing()
    assert (standing.state, standing.refuted) == ("unproven", (SHIPPED,))


def test_when_no_point_is_left_nothing_is_served() -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    control(category, 200)
    feed(category, wrong=True, times=200)
    standing = category.standing()
    assert (standing.point, standing.state, category.place) == (0.0, "refuted", CLOSED)
    assert standing.error.lower > BUDGET


def test_a_closed_category_comes_back_at_the_tightest_point_once_that_is_proven() -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    control(category, 200)
    feed(category, wrong=True, times=200)
    proofs = 0
    while category.place == CLOSED:
        category.missed(category.sample(), 0.0005, False)
        proofs += 1
        assert proofs < 20_000
    assert category.point == GRID[0]
    assert proofs > 500


def test_a_closed_category_opens_where_the_score_can_tell_although_it_never_says_less() -> None:
    """The score that is shipped says 0.008 of its surest pairs: nothing reaches GRID[0]."""
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    control(category, 200)
    feed(category, wrong=True, times=200)
    for number in range(4000):
        risky = number % 2 == 0  # what looks worse is worse, and is no reason to stay closed
        category.missed(category.sample(), 0.3 if risky else 0.015, risky and number % 3 == 0)
        if category.place != CLOSED:
            break
    assert (category.point, category.state) == (0.02, "proven")


def test_a_category_that_fell_to_a_point_that_serves_nothing_comes_back_as_well() -> None:
    category = CategoryBudget.fresh(0.02, 0.139)
    control(category, 400)
    chance = random.Random(3)
    while category.point == 0.139:
        feed(category, wrong=chance.random() < 0.5, risk=0.12)  # all hits look like that
    assert category.point == 0.1  # where there are none
    assert category.learns_from_miss(0.12)
    for _ in range(2000):
        category.missed(category.sample(), 0.12, wrong=False)
    assert (category.point, category.state) == (0.139, "proven")
    feed(category, wrong=False)
    assert not category.learns_from_miss(0.5)  # there are hits again


def test_a_category_that_is_shipped_closed_opens_by_proof_and_by_nothing_else() -> None:
    category = CategoryBudget.fresh(BUDGET, 0.0)
    control(category, 400)
    assert (category.point, category.state) == (0.0, "unproven")
    for _ in range(300):
        category.missed(category.sample(), 0.03, wrong=True)
    assert category.point == 0.0
    category = CategoryBudget.from_data(json.loads(json.dumps(category.as_data())))
    for _ in range(4000):
        category.missed(category.sample(), 0.03, wrong=False)
    assert category.point >= 0.035


def test_what_went_wrong_beside_a_closed_category_does_not_keep_it_closed_for_ever() -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    control(category, 400)
    feed(category, wrong=True, times=200)
    for wrong in (True, False):
        for _ in range(2000):
            category.missed(category.sample(), 0.015, wrong)
    assert category.place != CLOSED


def test_a_proven_point_is_loosened_by_one_step_which_is_unproven() -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    while category.point == SHIPPED:
        feed(category, wrong=False)
    assert category.point == 0.1
    assert category.state == "unproven"
    assert 400 < category.audits < 1500
    assert category.sampling == START  # new ground is looked at closely


def test_a_refuted_point_comes_back_only_after_ever_more_proofs_below() -> None:
    category = CategoryBudget.fresh(BUDGET, 0.1)
    control(category, 2000)
    waits = []
    for _ in range(2):
        while category.point == 0.1:
            feed(category, wrong=True, risk=0.08)
        before = category.audits
        while category.point < 0.1:
            feed(category, wrong=False)
        waits.append(category.audits - before)
    assert waits[1] > 1.5 * waits[0]


def test_wrong_verdicts_refute_nothing_while_they_may_be_false_alarms() -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    feed(category, wrong=True, times=300)
    assert category.point == SHIPPED
    control(category, 200, alarms=100)
    feed(category, wrong=True, times=1)
    assert category.point < SHIPPED  # not even half of all verdicts can be


def test_without_a_budget_the_rate_is_measured_and_nothing_moves() -> None:
    category = CategoryBudget.fresh(None, 1.0)
    control(category, 300)
    feed(category, wrong=True, times=300)
    standing = category.standing()
    assert (standing.point, standing.state) == (1.0, "unproven")
    assert standing.error.lower > 0.5


def test_a_verdict_from_before_the_last_conclusion_is_counted_but_not_weighed() -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    control(category, 200)
    sample = category.sample()
    while category.point == SHIPPED:
        feed(category, wrong=True, risk=0.03)
    point = category.point
    for _ in range(300):
        category.audited(sample, 0.0005, True)
    assert category.point == point
    assert category.evidence.audits == 0


# -- sampling


def test_sampling_starts_at_a_fifth_decays_and_rises_again() -> None:
    category = CategoryBudget.fresh(None, 1.0)
    seen = [category.sampling]
    for _ in range(4):
        feed(category, wrong=False, times=1600)
        seen.append(category.sampling)
    assert seen[0] == START
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 0.02
    budgeted = CategoryBudget.fresh(BUDGET, 1.0)
    control(budgeted, 1000)
    feed(budgeted, wrong=False, times=6000)
    assert budgeted.sampling < START
    feed(budgeted, wrong=True, times=30, risk=0.9)
    assert budgeted.sampling == START


def test_controls_are_called_for_while_there_are_fewer_than_audits() -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    assert not category.wants_control
    feed(category, wrong=False, times=100)
    assert category.wants_control
    behind = category.control_sampling
    control(category, 150)
    assert not category.wants_control
    assert category.control_sampling < behind


# -- feedback


def test_complaints_tighten_at_once_and_never_beyond_a_bound() -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    category.complained()
    assert category.point == SHIPPED / 2
    for _ in range(20):
        category.complained()
    assert category.point == SHIPPED / 2**MOST_STRAIN
    assert category.state == "unproven"


def test_audits_that_find_hits_right_take_a_complaint_back() -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    category.complained()
    points = [category.point]
    for _ in range(20):
        feed(category, wrong=False)
        points.append(category.point)
    assert points == sorted(points)
    assert points[-1] == pytest.approx(SHIPPED)
    feed(category, wrong=False, times=20)
    assert category.point == SHIPPED  # and no further


def test_complaints_that_left_no_hits_are_taken_back_by_what_they_withhold() -> None:
    category = CategoryBudget.fresh(0.02, 0.139)  # as is shipped; the score says 0.008 and more
    for _ in range(4):
        category.complained()
    assert category.point < 0.009
    for risk, wrong in ((0.1, True), (0.2, False)):  # wrong, and never served anyway
        for _ in range(100):
            category.missed(category.sample(), risk, wrong)
    assert category.strain == MOST_STRAIN
    for _ in range(80):
        assert category.learns_from_miss(0.139)
        category.missed(category.sample(), 0.139, False)
    assert category.point == pytest.approx(0.139)
    assert not category.learns_from_miss(0.139)
    assert category.evidence.audits == 0  # nobody was served


def test_without_a_judge_what_is_withheld_takes_a_complaint_back_far_later_than_hits() -> None:
    category = CategoryBudget.fresh(0.02, 0.139)
    category.complained()
    for _ in range(2500):
        category.withheld(0.1)
        category.withheld(0.2)  # not for complaints
    assert category.strain == pytest.approx(0.5)


def test_wrong_verdicts_take_no_complaint_back() -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    category.complained()
    feed(category, wrong=True, times=30)
    assert category.point == SHIPPED / 2


def test_complaints_never_enter_the_estimate() -> None:
    plain, loud = (CategoryBudget.fresh(BUDGET, SHIPPED) for _ in range(2))
    for number in range(60):
        feed(plain, wrong=number % 7 == 0, risk=0.0005)
        loud.complained()
        feed(loud, wrong=number % 7 == 0, risk=0.0005)
    row = plain.points.index(0.001)  # below every tightened point
    for category in (plain, loud):
        assert category.evidence.windows[0].rows[row].count == 60
    assert plain.evidence.rate(row, plain.controls) == loud.evidence.rate(row, loud.controls)


def test_a_tightened_point_is_no_evidence_for_the_looser_one() -> None:
    """The riskier hits are not seen meanwhile: what is left would flatter the point."""
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    for _ in range(4):
        category.complained()
    feed(category, wrong=False, times=10)
    assert category.evidence.windows[0].rows[category.place].count == 0


@given(st.lists(st.sampled_from(["complaint", "served"]), max_size=60))
def test_feedback_never_loosens(steps: list[str]) -> None:
    category = CategoryBudget.fresh(BUDGET, SHIPPED)
    for step in steps:
        before = category.point
        category.complained() if step == "complaint" else category.served()
        assert category.point <= (before if step == "complaint" else SHIPPED)


# -- whole streams


@pytest.mark.parametrize("seed", range(5))
def test_a_good_category_with_a_noisy_judge_stays_open(seed: int) -> None:
    run = simulate(lambda number, risk: 0.004, 15_000, seed=seed)
    assert run.falls == ()
    assert run.category.point >= SHIPPED
    assert run.error <= 0.01


def test_a_point_within_its_budget_is_hardly_ever_refuted() -> None:
    """Under 5 % of whole lives, at the very edge of the budget and with false alarms."""
    fallen = sum(bool(simulate(lambda n, r: BUDGET, 4000, seed=s).falls) for s in range(100))
    assert fallen <= 11


def test_a_point_above_its_budget_is_hardly_ever_proven() -> None:
    proven = 0
    for seed in range(100):
        run = simulate(lambda n, r: BUDGET * 1.3, 6000, seed=seed, noise=0.0)
        proven += run.category.point > SHIPPED
    assert proven <= 11


@pytest.mark.parametrize("seed", range(5))
def test_a_jump_of_the_error_is_seen_in_time_and_ends_in_a_tighter_point(seed: int) -> None:
    """Above 0.02 everything goes wrong half the time from query 10,000 on; 5 % judge noise."""

    def rate(number: int, risk: float) -> float:
        return 0.5 if number >= 10_000 and risk > 0.02 else 0.003

    run = simulate(rate, 20_000, seed=seed)
    assert run.falls
    assert run.falls[0] - 10_000 < 2_500
    assert run.category.point <= 0.02
    late = simulate(rate, 40_000, seed=seed)
    assert late.wrong - run.wrong <= 0.02 * (late.served - run.served)


def test_a_jump_is_seen_although_a_long_good_past_is_remembered() -> None:
    category = CategoryBudget.fresh(BUDGET, 1.0)
    control(category, 3000, alarms=150)
    chance = random.Random(5)
    for _ in range(6000):
        category.audited(category.sample(), 0.9, chance.random() < 0.053)
    assert category.point == 1.0
    seen = 0
    while category.point == 1.0:
        category.audited(category.sample(), 0.9, chance.random() < 0.34)
        seen += 1
    assert seen < 200  # the mean of all audits would need thousands


# -- what is kept


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["audit", "control", "complaint", "missed"]),
        st.booleans(),
        st.sampled_from([0.0005, 0.004, 0.03, 0.3]),
        st.sampled_from([0.02, 0.2, 1.0]),
    ),
    max_size=150,
)


def take(category: CategoryBudget, step: tuple[str, bool, float, float]) -> None:
    kind, wrong, risk, probability = step
    sample = Sample(probability, category.point, category.evidence.number)
    match kind:
        case "audit":
            category.audited(sample, risk, wrong)
        case "control":
            category.controlled(wrong)
        case "missed":
            category.missed(sample, risk, wrong)
        case _:
            category.complained()


@settings(deadline=None)
@given(STEPS, STEPS, st.sampled_from([None, 0.01, 0.3]))
def test_a_category_goes_on_where_it_was_put_down(
    before: list[tuple[str, bool, float, float]],
    after: list[tuple[str, bool, float, float]],
    budget: float | None,
) -> None:
    category = CategoryBudget.fresh(budget, SHIPPED)
    for step in before:
        take(category, step)
    resumed = CategoryBudget.from_data(json.loads(json.dumps(category.as_data())))
    for step in after:
        take(category, step)
        take(resumed, step)
    assert resumed.standing() == category.standing()
    assert resumed.as_data() == category.as_data()


@settings(deadline=None)
@given(STEPS)
def test_whatever_comes_the_standing_is_sound(steps: list[tuple[str, bool, float, float]]) -> None:
    category = CategoryBudget.fresh(0.3, SHIPPED)
    for step in steps:
        take(category, step)
        assert 0.0 <= category.point <= 1.0
        assert 0.02 <= category.sampling <= START
    standing = category.standing()
    assert 0.0 <= standing.error.lower <= 1.0
    assert 0.0 <= standing.error.upper <= 1.0
    assert (standing.point == 0.0) is (standing.state == "refuted")


def test_what_is_kept_stays_small() -> None:
    category = CategoryBudget.fresh(BUDGET, 1.0)
    control(category, 3000)
    feed(category, wrong=False, times=600)
    for number in range(3000):
        feed(category, wrong=number % 150 == 0, risk=(number % 100) / 100)
    assert len(json.dumps(category.as_data())) < 40_000


@pytest.mark.parametrize(
    "change",
    [{"place": 99}, {"evidence": {}}, {"controls": [1]}, {"barred": 3}, {"concluded": [1]}],
)
def test_what_no_category_wrote_is_refused(change: dict[str, object]) -> None:
    data = CategoryBudget.fresh(BUDGET, SHIPPED).as_data()
    with pytest.raises((KeyError, TypeError, ValueError)):
        CategoryBudget.from_data({**data, **change})
