"""A fold's score learns nothing from rows that are connected with what the fold asks."""

from __future__ import annotations

from bench.refit import held_out, without
from proxy.evaluation.jsonl import Asked
from proxy.evaluation.pair_rows import PairRow, folds_of


def pair(q1: str, q2: str) -> PairRow:
    return PairRow("f", f"f:{q1}{q2}", Asked((), q1), Asked((), q2), 1)


ROWS = [pair("a", "b"), pair("b", "c"), pair("d", "e"), pair("f", "g")]
SETS = {
    "asked": [{"q1": row.q1.text, "q2": row.q2.text, "label": 1} for row in ROWS],
    "another": [{"q1": "c", "q2": "x", "label": 0}, {"q1": "y", "q2": "z", "label": 1}],
}


def test_what_is_held_out_is_learnt_from_in_no_set() -> None:
    texts = held_out(ROWS, ROWS[2:])
    assert texts == {"a", "b", "c"}
    left = without(SETS, texts)
    assert [row["q1"] for row in left["asked"]] == ["d", "f"]
    assert [row["q1"] for row in left["another"]] == ["y"]


def test_what_was_said_before_a_question_is_held_out_too() -> None:
    row = PairRow("f", "f:1", Asked(("u", "an answer"), "q"), Asked(("v", "an answer"), "r"), 1)
    assert held_out([row], []) == {"u", "q", "v", "r"}


def test_every_row_is_learnt_from_in_all_folds_but_its_own() -> None:
    parted = folds_of(ROWS, 3)
    for fold in range(3):
        others = [row for row, its in zip(ROWS, parted, strict=True) if its != fold]
        left = without(SETS, held_out(ROWS, others))["asked"]
        assert [row["q1"] for row in left] == [row.q1.text for row in others]
