"""A composed stream keeps its promises: partners first, answers by labels, repeats by the trace."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import composed_stream
from bench.composed_stream import (
    Text,
    answer_ids,
    compose,
    doubtful_texts,
    drawn_keys,
    first_appearances,
    paired_texts,
    single_texts,
)


def pair(q1: str, q2: str, label: int, **fields: Any) -> dict[str, Any]:
    return {"q1": q1, "q2": q2, "label": label, **fields}


letters = st.sampled_from("abcdefghij")
pairs = st.lists(st.builds(pair, letters, letters, st.integers(0, 1)), max_size=20)


@given(pairs)
def test_texts_have_one_answer_exactly_when_rows_labelled_1_join_them(
    rows: list[dict[str, Any]],
) -> None:
    answers = answer_ids(rows)
    for one in answers:
        joined = {one}  # the slow way
        for _ in rows:
            for row in rows:
                if row["label"] == 1 and joined & {row["q1"], row["q2"]}:
                    joined |= {row["q1"], row["q2"]}
        assert {other for other in answers if answers[other] == answers[one]} == joined


@given(pairs, st.integers(0, 5))
def test_every_twin_comes_after_a_partner_and_every_text_once(
    rows: list[dict[str, Any]], seed: int
) -> None:
    placed = paired_texts(rows, random.Random(seed))
    answers = answer_ids(rows)
    assert len({text.q for text in placed}) == len(placed)
    for place, text in enumerate(placed):
        before = {other.q for other in placed[:place]}
        partners = {
            label: {
                other
                for row in rows
                for one, other in ((row["q1"], row["q2"]), (row["q2"], row["q1"]))
                if row["label"] == label and one == text.q
            }
            for label in (0, 1)
        }
        wrong = {q for q in partners[0] & before if answers[q] != answers[text.q]}
        right = partners[1] & before
        assert text.kind == ("label1" if right else "label0" if wrong else "first")


def test_what_may_mean_the_same_unlabelled_is_left_out() -> None:
    red, again = "who sang the red song", "who was it that sang the red song"
    rows = [
        pair(red, "who sang the blue song", 0, answers1=["Ann"], answers2=["Bo"]),
        pair(again, "who wrote it", 0, answers1=["ann"], answers2=["C"]),
        pair("name a cat of Ann", "name the dog of Ann", 0, answers1=["Ann"], answers2=["D"]),
    ]
    positive = [pair("Explain the tide", "What is the tide?", 1), pair("Describe the tide", "x", 1)]
    every = rows + positive
    doubtful = doubtful_texts(every, positive, answer_ids(every))
    assert doubtful == {again, "Describe the tide"}


def test_a_labelled_twin_is_no_doubtful_text() -> None:
    rows = [pair("open at 5", "opens at 5", 0, answers1=["Ann"], answers2=["Ann"])]
    assert doubtful_texts(rows, [], answer_ids(rows)) == set()


def test_single_questions_are_left_out_where_a_text_with_their_answer_is_alike() -> None:
    questions: list[dict[str, Any]] = [
        {"question": "who sings the red song", "answers": ["Ann"]},
        {"question": "who lives on the hill", "answers": ["Ann"]},
        {"question": "how long is the red song", "answer": "3", "rationale": "..."},
        {"question": "who lives on the hill", "answers": ["Bo"]},
    ]
    singles = single_texts(questions, [("who sang the red song", ["Ann"])])
    assert [text.q for text in singles] == ["who lives on the hill", "how long is the red song"]
    assert len({text.answer_id for text in singles}) == 2


def test_keys_keep_the_traces_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composed_stream, "QUERIES", 50)
    trace = [f"k{number % 7 if number % 3 else number}" for number in range(200)]
    keys = drawn_keys(trace, random.Random(4))
    assert len(keys) == 50
    kept = set(keys)
    doubled = [key for key in trace * 2 if key in kept]
    assert any(doubled[begin : begin + 50] == keys for begin in range(len(doubled)))
    assert keys == drawn_keys(trace, random.Random(4))
    with pytest.raises(ValueError, match="10 requests, not 50"):
        drawn_keys(trace[:10], random.Random(4))


def texts(kind: str, count: int) -> list[Text]:
    return [Text(f"{kind} {number}", f"{kind}{number}", kind) for number in range(count)]


def test_singles_fill_up_and_pairs_keep_their_order() -> None:
    paired = texts("label0", 6)
    order = first_appearances(paired, texts("first", 9), 12, random.Random(1))
    assert [text for text in order if text.kind == "label0"] == paired
    assert Counter(text.kind for text in order) == {"label0": 6, "first": 6}


def test_too_few_texts_or_twins_are_refused() -> None:
    with pytest.raises(ValueError, match="12 texts are needed, 10 are there"):
        first_appearances(texts("label0", 6), texts("first", 4), 12, random.Random(1))
    with pytest.raises(ValueError, match="2 of 7 texts are twins"):
        first_appearances(texts("label0", 2), texts("first", 9), 7, random.Random(1))


def test_a_key_that_comes_again_repeats_its_query_and_time_goes_on() -> None:
    rows = list(
        compose(["x", "y", "x", "x", "z"], texts("label0", 3), [(0.0, 10, 1), (2.5, 20, 2)])
    )
    assert [row["q"] for row in rows] == [f"label0 {n}" for n in (0, 1, 0, 0, 2)]
    assert [row["kind"] for row in rows] == ["label0", "label0", "repeat", "repeat", "label0"]
    assert [row["t"] for row in rows] == [0.0, 2.5, 3.5, 6.0, 7.0]
    assert [row["tokens_in"] for row in rows] == [10, 20, 10, 20, 10]
