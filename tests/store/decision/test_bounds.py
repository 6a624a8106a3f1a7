"""Bounds that hold at every moment at once: checked over whole trajectories, seeds fixed."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.decision.bounds import (
    Tally,
    corrected,
    errs_less,
    errs_more,
    least_error,
    most_error,
)

NEEDED = log(1 / 0.05)
TRAJECTORIES = 200
# Of 200 trajectories at 5 % each, 18 or more violate with a probability of 1 %.
MOST = 17
Drift = Callable[[int, float], float]  # step and estimate so far, to a rate of wrong ones

DRIFTS: dict[str, Drift] = {
    "none": lambda step, seen: 0.03,
    "rare": lambda step, seen: 0.004,
    "jump": lambda step, seen: 0.002 if step < 300 else 0.2,
    "waves": lambda step, seen: 0.2 if step // 50 % 2 else 0.01,
    "against what was seen": lambda step, seen: 0.15 if seen < 0.05 else 0.0,
}
VERDICTS = st.lists(st.tuples(st.booleans(), st.floats(0.05, 20.0)), max_size=80)


def tally_of(verdicts: list[tuple[bool, float]]) -> Tally:
    tally = Tally()
    for wrong, weight in verdicts:
        tally.add(wrong, weight)
    return tally


def violations(drift: Drift, weigh: Callable[[random.Random], float]) -> tuple[int, int]:
    """Return in how many trajectories the mean was ever below its lower, above its upper bound."""
    below = above = 0
    for seed in range(TRAJECTORIES):
        chance, tally, total = random.Random(seed), Tally(), 0.0
        under = over = False
        for step in range(400):
            rate = drift(step, tally.estimate or 0.0)
            weight = weigh(chance)
            tally.add(chance.random() < rate, weight)
            total += weight * rate
            mean = total / tally.weight
            under |= tally.evidence_above(mean) >= NEEDED
            over |= tally.evidence_below(mean) >= NEEDED
        below += under
        above += over
    return below, above


@pytest.mark.parametrize("name", DRIFTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_leaves_its_bounds_in_at_most_one_trajectory_of_twenty(
    name: str, weighted: bool
) -> None:
    def weigh(chance: random.Random) -> float:
        return chance.choice([0.25, 0.5, 1.0, 2.0, 4.0]) if weighted else 1.0

    below, above = violations(DRIFTS[name], weigh)
    assert below <= MOST
    assert above <= MOST


def test_the_check_sees_an_interval_that_is_none_at_all_times() -> None:
    """Clopper-Pearson's kind of bound, looked at after every verdict, is wrong far more often."""
    broken = 0
    for seed in range(TRAJECTORIES):
        chance, wrong, ever = random.Random(seed), 0, False
        for n in range(1, 401):
            wrong += chance.random() < 0.03
            # Poisson with one bet that is right for this rate: valid at a fixed n only.
            ever |= n >= 100 and wrong - 0.03 * n > 1.645 * (0.03 * n) ** 0.5
        broken += ever
    assert broken > MOST


def test_when_nothing_is_wrong_about_five_times_the_inverse_of_a_rate_proves_it() -> None:
    tally = Tally()
    while tally.upper(NEEDED) > 0.01:
        tally.add(False)
    assert 300 <= tally.count <= 500  # a binomial test at one fixed n takes 299


def test_a_rate_of_three_times_the_budget_is_seen() -> None:
    tally, chance = Tally(), random.Random(1)
    while tally.lower(NEEDED) < 0.01:
        tally.add(chance.random() < 0.03)
    assert tally.count < 1500


@given(VERDICTS, st.floats(0.5, 12.0))
def test_the_estimate_lies_between_its_bounds(
    verdicts: list[tuple[bool, float]], needed: float
) -> None:
    tally = tally_of(verdicts)
    estimate = tally.estimate
    lower, upper = tally.lower(needed), tally.upper(needed)
    assert 0.0 <= lower <= 1.0
    assert 0.0 <= upper <= 1.0
    if estimate is not None:
        assert lower <= estimate + 1e-6
        assert upper >= estimate - 1e-6


@given(VERDICTS, st.floats(0.0, 0.98), st.floats(0.001, 0.02))
def test_evidence_falls_and_rises_with_what_is_said(
    verdicts: list[tuple[bool, float]], mean: float, more: float
) -> None:
    tally = tally_of(verdicts)
    assert tally.evidence_above(mean) >= tally.evidence_above(mean + more) - 1e-9
    assert tally.evidence_below(mean) <= tally.evidence_below(mean + more) + 1e-9


@given(VERDICTS, VERDICTS)
def test_a_tally_goes_on_where_it_was_put_down(
    before: list[tuple[bool, float]], after: list[tuple[bool, float]]
) -> None:
    whole, part = tally_of(before + after), tally_of(before)
    resumed = Tally.from_data(part.as_data())
    for wrong, weight in after:
        resumed.add(wrong, weight)
    assert resumed.as_data() == whole.as_data()


@pytest.mark.parametrize("data", [[1.0], [0.0] * 20, [float("nan")] * 19])
def test_what_no_tally_wrote_is_refused(data: list[float]) -> None:
    with pytest.raises(ValueError, match="not a tally"):
        Tally.from_data(data)


# -- false alarms


def noisy(chance: random.Random, wrong: bool, alarms: float, misses: float) -> bool:
    return chance.random() >= misses if wrong else chance.random() < alarms


@pytest.mark.parametrize("error", [0.0, 0.01, 0.08])
@pytest.mark.parametrize(("alarms", "misses"), [(0.05, 0.0), (0.05, 0.1), (0.0, 0.1), (0.2, 0.05)])
def test_false_alarms_break_neither_bound(error: float, alarms: float, misses: float) -> None:
    below = above = 0
    for seed in range(100):
        chance, audits, controls = random.Random(seed), Tally(), Tally()
        under = over = False
        for step in range(400):
            audits.add(noisy(chance, chance.random() < error, alarms, misses))
            if step % 2:
                controls.add(noisy(chance, False, alarms, misses))
            under |= errs_more(audits, controls, error, NEEDED)
            over |= errs_less(audits, controls, error, 0.1, NEEDED)
        below += under
        above += over
    # Of 100 trajectories at 5 % each, 12 or more violate with a probability of 0.4 %.
    assert below <= 11
    assert above <= 11


def test_without_controls_no_error_is_known() -> None:
    """Every wrong verdict might be a false alarm."""
    audits, chance = Tally(), random.Random(3)
    for _ in range(2000):
        audits.add(chance.random() < 0.5)
    assert least_error(audits, Tally(), NEEDED) == 0.0
    assert most_error(audits, Tally(), 0.0, NEEDED) < 0.6


def test_errors_are_told_from_false_alarms() -> None:
    audits, controls, chance = Tally(), Tally(), random.Random(4)
    for _ in range(3000):
        audits.add(noisy(chance, chance.random() < 0.10, 0.05, 0.0))
        controls.add(noisy(chance, False, 0.05, 0.0))
    lower = least_error(audits, controls, NEEDED)
    upper = most_error(audits, controls, 0.1, NEEDED)
    assert 0.05 < lower < 0.10 < upper < 0.17
    assert audits.lower(NEEDED) > 0.10  # what it would be without the correction


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_corrected_rate_gives_back_what_was_seen(error: float, alarms: float) -> None:
    seen = error + (1 - error) * alarms
    if alarms < 0.999:
        assert corrected(seen, alarms) == pytest.approx(error, abs=1e-6)
    assert 0.0 <= corrected(seen, alarms) <= 1.0


@given(VERDICTS, VERDICTS, st.floats(1.0, 8.0))
def test_the_bounds_of_errors_are_ordered(
    audited: list[tuple[bool, float]], controlled: list[tuple[bool, float]], needed: float
) -> None:
    audits, controls = tally_of(audited), tally_of([(wrong, 1.0) for wrong, _ in controlled])
    lower = least_error(audits, controls, needed)
    assert 0.0 <= lower <= audits.lower(needed) + 1e-6
    assert 0.0 <= most_error(audits, controls, 0.1, needed) <= 1.0
