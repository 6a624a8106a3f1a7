"""The rivals see cosines only, and are counted as ours is."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from bench.decision_tables import best_tolerated
from bench.rivals_decision import above, best_threshold, cosine_alone, nearest, verified
from proxy.evaluation.jsonl import Asked
from proxy.evaluation.pair_rows import PairRow
from proxy.evaluation.scores import right_answers
from proxy.evaluation.stream_rows import StreamRow

ANGLES = {"a": 0.0, "a'": 3.0, "a''": 10.0, "b": 60.0, "b'": 61.0}
VECTORS = {
    text: np.array([math.cos(math.radians(d)), math.sin(math.radians(d))], np.float32)
    for text, d in ANGLES.items()
}


def q(text: str) -> Asked:
    return Asked((), text)


def pair(q1: str, q2: str, label: int) -> PairRow:
    return PairRow("f", "f:1", q(q1), q(q2), label)


def query(text: str, answer_id: str) -> StreamRow:
    return StreamRow(q(text), answer_id, 0.0, 0.0, 0.0)


ROWS = [pair("a", "a'", 1), pair("a", "a''", 0), pair("b", "a", 0), pair("b", "unreadable", 1)]


def test_the_nearest_stored_question_is_served_above_the_threshold() -> None:
    found = nearest(ROWS, ["b'"], VECTORS)
    assert set(found) == {q("a'"), q("a''"), q("unreadable")}  # "a" is stored itself
    assert found[q("unreadable")] is None
    answer = found[q("a'")]
    assert answer is not None
    assert answer.question == q("a")
    assert answer.similarity == pytest.approx(math.cos(math.radians(3)), abs=1e-6)
    assert above(answer.similarity, found)[q("a'")] == answer  # inclusive
    assert above(answer.similarity + 0.001, found)[q("a'")] is None


def test_the_best_threshold_parts_right_from_wrong() -> None:
    found = nearest(ROWS, [], VECTORS)
    threshold = best_threshold(ROWS, found, right_answers(ROWS))
    served = above(threshold, found)
    assert served[q("a'")] is not None
    assert served[q("a''")] is None


def test_cosine_alone_stores_misses_and_serves_what_is_near() -> None:
    respond = cosine_alone(VECTORS, 5, 0.99)
    assert respond(query("a", "a")) is None
    near, far, own = respond(query("a'", "a")), respond(query("b", "b")), respond(query("a", "a"))
    assert near is not None and (near.answer_id, near.exact) == ("a", False)
    assert far is None
    assert own is not None and own.exact
    assert respond(query("unreadable", "u")) is None
    assert respond(query("unreadable", "u")) is None


def test_vcache_stores_what_differs_and_serves_once_it_has_labels() -> None:
    respond = verified(VECTORS, 100, delta=0.2, noise=0.0, chance=random.Random(1))
    assert respond(query("a", "a")) is None
    answers = [respond(query("a'", "a")) for _ in range(60)]
    assert answers[:4] == [None] * 4
    assert any(answers[4:])
    assert all(answer is None or answer.question == q("a") for answer in answers)
    assert respond(query("b", "b")) is None
    assert respond(query("b'", "b")) is None


def test_a_judge_that_errs_teaches_vcache_to_serve_what_is_wrong() -> None:
    respond = verified(VECTORS, 100, delta=0.2, noise=1.0, chance=random.Random(1))
    respond(query("a", "a"))
    answers = [respond(query("b", "b")) for _ in range(200)]
    served = {answer.answer_id for answer in answers if answer is not None}
    assert served == {"a"}


def test_the_best_fixed_cosine_is_among_those_that_err_no_more() -> None:
    def row(way: str, error: float, rate: float) -> dict[str, object]:
        return {"way": way, "realised_error": error, "hit_rate": rate, "semantic_hits": rate}

    rows = [
        row("ours", 0.0, 0.9),
        row("cosine 0.9", 0.5, 0.8),
        row("cosine 0.98", 0.009, 0.1),
        row("cosine 0.99", 0.0, 0.05),
        row("cosine 0.999", 0.0, 0.0),
    ]
    best = best_tolerated(rows, 0.01)
    assert best is not None and best["way"] == "cosine 0.98"
    assert best_tolerated(rows[:2], 0.01) is None
