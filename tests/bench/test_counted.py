"""Pairs are counted twice: by their labels, and without what was read and found to be wrong."""

from __future__ import annotations

import pytest

from bench import mislabelled
from bench.counted import counted, reread
from bench.mislabelled import Read, digest
from proxy.evaluation.jsonl import Asked
from proxy.evaluation.pair_rows import PairRow
from proxy.evaluation.scores import ALL, Served, right_answers


def q(text: str) -> Asked:
    return Asked((), text)


def pair(q1: str, q2: str, label: int) -> PairRow:
    return PairRow("pairs_f", f"f:{q1}{q2}", q(q1), q(q2), label)


ROWS = [pair("a", "b", 0), pair("c", "d", 1), pair("e", "f", 0)]


@pytest.fixture(autouse=True)
def read(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (
        Read("f", digest("a", "b"), True, "the same"),
        Read("f", digest("e", "d"), False, "the same"),
    )
    monkeypatch.setattr(mislabelled, "READ", entries)


def test_rows_labelled_wrongly_are_left_out_and_other_right_answers_count() -> None:
    kept, right = reread(ROWS)
    assert kept == ROWS[1:]
    assert right[q("d")] == {q("c"), q("e")}
    assert q("f") not in right


def test_rows_in_a_dialogue_are_never_taken_for_what_was_read() -> None:
    follow_up = PairRow("pairs_f", "f:1", Asked(("u", "t"), "a"), Asked(("u", "t"), "b"), 0)
    assert reread([follow_up]) == ([follow_up], {})


def test_each_way_has_a_line_a_file_and_the_best_threshold_too() -> None:
    served = {q("b"): Served(q("a"), 0.9), q("d"): Served(q("e"), 0.8), q("f"): None}
    by_labels = counted("all", ROWS, right_answers(ROWS), {"ours": served}, served)
    assert [(row["way"].split()[0], row["file"]) for row in by_labels] == [
        ("ours", "pairs_f"), ("ours", ALL), ("best", "pairs_f"), ("best", ALL),
    ]  # fmt: skip
    assert by_labels[0]["wrong_hits"] == 2
    by_reading = counted("read", *reread(ROWS), {"ours": served}, served)
    assert (by_reading[0]["n"], by_reading[0]["wrong_hits"]) == (2, 0)
    assert by_reading[0]["recall"] == 1.0
