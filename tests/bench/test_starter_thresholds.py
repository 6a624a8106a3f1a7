"""The rule that chooses thresholds, on made-up hits; and that it notices a file that disagrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import starter_thresholds
from bench.pairs import Found
from bench.starter_thresholds import (
    BASES,
    QUESTIONS,
    STRICT,
    SUMS,
    SWEPT,
    TALK,
    Step,
    choose,
    choose_strictly,
    disagreements,
    sweep,
    sweeps,
)
from store.policy import PolicyBook
from store.policy_file import load_policies, parse_policies


def hits(right: dict[float, int], wrong: dict[float, int]) -> list[Found]:
    """So many hits at each similarity."""
    return [
        Found(similarity, good)
        for counts, good in ((right, True), (wrong, False))
        for similarity, count in counts.items()
        for _ in range(count)
    ]


def test_every_category_of_the_starter_file_has_a_basis_or_is_strict() -> None:
    assert set(load_policies(None).names) == {*BASES, *STRICT}


def test_a_threshold_is_inclusive() -> None:
    step = next(s for s in sweep([Found(0.9, True)], 1) if s.threshold == 0.9)
    assert (step.hits, step.recall) == (1, 1.0)
    assert next(s for s in sweep([Found(0.9, True)], 1) if s.threshold == 0.91).hits == 0


def test_precision_recall_and_the_lower_end() -> None:
    step = Step(0.9, 40, 20, 2)
    assert (step.precision, step.recall) == (0.9, 0.45)
    assert step.at_least == pytest.approx((0.925 - 0.005125**0.5) / 1.05)  # Wilson, z = 1
    assert Step(0.9, 40, 1, 0).at_least == pytest.approx(0.5)
    assert Step(0.9, 0, 0, 0).at_least == 0


@given(st.integers(1, 500), st.data())
def test_the_lower_end_is_below_the_precision_and_rises_with_more_of_the_same(
    count: int, data: st.DataObject
) -> None:
    wrong = data.draw(st.integers(0, count))
    step, twice = Step(0.9, 1, count, wrong), Step(0.9, 1, 2 * count, 2 * wrong)
    assert 0 <= step.at_least <= step.precision + 1e-9 or step.precision == 0
    if wrong < count / 2:
        assert step.at_least < twice.at_least


def test_the_smallest_threshold_that_reaches_the_target_is_chosen() -> None:
    steps = sweep(hits({0.95: 40, 0.85: 20}, {0.84: 20}), 60)
    assert choose(steps, 0.88) == 0.85
    assert choose(steps, 0.88, margin=0.02) == 0.87
    assert choose(sweep(hits({0.95: 40}, {0.94: 20}), 60), 0.88) == 0.95


def test_few_hits_have_to_be_better_than_many() -> None:
    assert choose(sweep(hits({0.95: 5}, {}), 5), 0.88) is None
    assert choose(sweep(hits({0.95: 8}, {}), 8), 0.88) == 0.70


def test_no_threshold_is_chosen_where_none_reaches_the_target() -> None:
    assert choose(sweep(hits({0.9: 5}, {0.98: 5}), 10), 0.88) is None
    assert choose(sweep([], 0), 0.88) is None


def test_strictly_chosen_is_above_the_last_wrong_hit() -> None:
    steps = sweep(hits({0.97: 3, 0.8: 9}, {0.914: 1}), 12)
    assert choose_strictly(steps) == 0.92
    assert choose_strictly(sweep(hits({}, {0.995: 1}), 1)) is None
    assert choose_strictly(sweep([], 0)) is None


rows: list[dict[str, Any]] = [
    {"q1": "a", "q2": "b", "label": 1},
    {"q1": "c", "q2": "b", "label": 0},
    {"q1": "d", "q2": "e", "label": 0},
    {"q1": "f", "q2": "stored", "label": 1},
]


def test_a_question_counts_once_however_many_rows_ask_it() -> None:
    files = dict.fromkeys((*QUESTIONS, *SUMS), rows)
    found = {"b": Found(0.95, True), "e": Found(0.93, False)}
    step = sweeps(files, {"b", "e"}, found)[TALK][0]
    assert step == Step(SWEPT[0], 1, 2, 1)


def test_a_question_whose_answers_are_all_vetoed_counts_against_the_recall() -> None:
    files = dict.fromkeys((*QUESTIONS, *SUMS), rows)
    step = sweeps(files, {"b", "e"}, {"e": Found(0.93, False)})[TALK][0]
    assert (step.asked, step.hits, step.recall) == (1, 1, 0.0)


def test_a_question_that_is_itself_stored_was_not_asked() -> None:
    files = dict.fromkeys((*QUESTIONS, *SUMS), rows)
    assert sweeps(files, {"b"}, {})[TALK][0].asked == 1


# Such hits as make the rule give what the starter file says.
GOOD = {
    basis.sets: sweep(hits({0.9: 8}, {}), 8) if basis.sets != SUMS else sweep([], 0)
    for basis in BASES.values()
} | {QUESTIONS: sweep(hits({0.995: 20}, {0.975: 1}), 20)}


def book(**changes: dict[str, Any]) -> PolicyBook:
    """Policies that agree with GOOD but for the changes."""
    strict = {"hit_threshold": 0.98}
    said: dict[str, dict[str, Any]] = {
        "code": {"hit_threshold": 0.72, "near_threshold": 0.6},
        "howto": {"hit_threshold": 0.70},
        "math": {"mode": "exact", **strict},
        "conversation": {
            "hit_threshold": 0.74,
            "load": {"latency_target_ms": 1, "threshold_floor": 0.74, "ttl_ceiling": "2d"},
        },
        "default": {"hit_threshold": 0.7},
        "legal": strict,
    }
    for name, change in changes.items():
        said[name] = said.get(name, {}) | change
    return parse_policies({"categories": [{"name": n, **p} for n, p in said.items()]}, "test")


def test_a_file_that_says_what_the_rule_gives_has_no_disagreement() -> None:
    assert disagreements(book(), GOOD) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"howto": {"hit_threshold": 0.9}}, "howto: hit_threshold 0.9, chosen 0.7"),
        ({"math": {"mode": "semantic"}}, "math: semantic, but no threshold reaches 0.88"),
        ({"math": {"hit_threshold": 0.9}}, "math: hit_threshold 0.9, chosen None"),
        ({"legal": {"hit_threshold": 0.97}}, "legal: hit_threshold 0.97, strictly 0.98"),
        ({"own": {}}, "own: no pairs are named for it in bench/starter_thresholds.py"),
        (
            {
                "conversation": {
                    "load": {"latency_target_ms": 1, "threshold_floor": 0.7, "ttl_ceiling": "2d"}
                }
            },
            "conversation: floor 0.7, chosen 0.74",
        ),
    ],
)
def test_every_disagreement_has_its_line(changes: dict[str, dict[str, Any]], line: str) -> None:
    assert disagreements(book(**changes), GOOD) == [line]


@pytest.mark.parametrize("agrees", [True, False])
def test_the_command_fails_when_the_file_and_the_pairs_disagree(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    agrees: bool,
) -> None:
    monkeypatch.setattr("sys.argv", ["starter_thresholds", "--data", str(tmp_path)])
    monkeypatch.setattr(starter_thresholds, "rows_of", lambda _: [{"text": "a noise"}])
    monkeypatch.setattr(starter_thresholds, "answers", lambda *_: ({}, {}))
    monkeypatch.setattr(starter_thresholds, "sweeps", lambda *_: GOOD)
    changed = book() if agrees else book(howto={"hit_threshold": 0.9})
    monkeypatch.setattr(starter_thresholds, "load_policies", lambda _: changed)
    assert starter_thresholds.main() == (0 if agrees else 1)
    said = capsys.readouterr()
    assert "| howto | stackexchange_dup, sts16_questions | 0.88 | 0.00 | 0.70 |" in said.out
    assert said.err == ("" if agrees else "howto: hit_threshold 0.9, chosen 0.7\n")
