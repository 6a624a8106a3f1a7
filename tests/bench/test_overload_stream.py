"""Composed streams are the same every time, repeat as said, and know what may answer what."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.overload_stream import (
    ANSWERED,
    HOT,
    LEADS,
    ONCE,
    PAIRS,
    TRACE,
    WORDINGS,
    Ask,
    Question,
    Stream,
    arrivals,
    data_stream,
    grouped,
    own_stream,
    traced_stream,
)
from bench.questions import subjects
from store.decision.guards import veto

QUESTIONS = [Question((f"why is number {n} odd",), frozenset()) for n in range(50)]


# Arrivals


@given(st.integers(0, 1000), st.floats(0.5, 50), st.floats(0.1, 60))
def test_arrivals_come_in_order_within_the_time(seed: int, rate: float, seconds: float) -> None:
    times = list(arrivals(random.Random(seed), rate, seconds))
    assert times == sorted(times)
    assert all(0 <= time < seconds for time in times)


def test_arrivals_have_the_rate_that_was_asked_for() -> None:
    count = len(list(arrivals(random.Random(1), 20.0, 500.0)))
    assert 9_600 < count < 10_400


# Questions of our own


def test_the_same_seed_composes_the_same_stream_and_another_seed_another() -> None:
    one, again, other = (own_stream(seed=seed, rate=10, seconds=60) for seed in (1, 1, 2))
    assert one == again != other


def test_some_subjects_come_again_and_the_others_are_asked_once() -> None:
    stream = own_stream(seed=1, rate=20, seconds=300)
    counts = Counter(ask.question for ask in stream.asks)
    once = [question for question in counts if question >= HOT]
    assert all(counts[question] == 1 for question in once)
    assert len(once) / len(stream.asks) == pytest.approx(ONCE, abs=0.02)
    assert counts[0] > 5 * counts[HOT // 2]  # a power law


def test_every_wording_of_a_subject_is_its_question_and_only_its() -> None:
    stream = own_stream(seed=1, rate=20, seconds=300)
    about = subjects()
    for ask in stream.asks:
        words = about[ask.question]._asdict()
        assert ask.text in {wording.format(**words) for wording in WORDINGS}
        assert stream.right(ask.question, ask.text)
    assert {ask.text.split()[0] for ask in stream.asks} >= {"How", "Could", "What", "My", "Is"}


def test_nearly_every_wording_gets_past_the_guards() -> None:
    words = subjects()[0]._asdict()
    texts = [wording.format(**words) for wording in WORDINGS]
    vetoes = [veto(a, b) for a, b in itertools.permutations(texts, 2)]
    refused = [guard for guard in vetoes if guard is not None]
    assert set(refused) <= {"tail"}  # a text that says all of another's, and much more
    assert len(refused) <= len(vetoes) / 9


def test_more_questions_than_we_have_are_refused() -> None:
    with pytest.raises(ValueError, match=r"more than 10000 questions of our own"):
        own_stream(seed=1, rate=300, seconds=100)


# What may answer what


def test_an_answer_is_right_for_its_own_question_or_with_a_labelled_answer_in_common() -> None:
    asks = [Ask(0, "who wrote it", 1), Ask(1, "its author", 1), Ask(2, "who is bo", 2)]
    asks += [Ask(3, "who painted it", 3), Ask(4, "unlabelled", 4), Ask(5, "unlabelled too", 5)]
    answers = {1: frozenset({"bo"}), 2: frozenset({"bo", "a singer"}), 3: frozenset({"ann"})}
    stream = Stream("x", asks, answers)
    assert stream.right(1, "its author")
    assert stream.right(1, "who is bo")
    assert not stream.right(1, "who painted it")
    assert not stream.right(4, "unlabelled too")
    assert not stream.right(1, "never asked")


def test_a_text_that_two_questions_share_is_right_for_both() -> None:
    stream = Stream("x", [Ask(0, "same", 1), Ask(1, "same", 2), Ask(2, "other", 3)])
    assert stream.right(1, "same")
    assert stream.right(2, "same")
    assert not stream.right(3, "same")


# Labelled pairs


def test_label_1_joins_texts_through_others_and_label_0_keeps_them_apart() -> None:
    rows: list[dict[str, object]] = [
        {"q1": "a", "q2": "b", "label": 1},
        {"q1": "c", "q2": "d", "label": 0},
        {"q1": "d", "q2": "e", "label": 1},
        {"q1": "b", "q2": "f", "label": 1},
        {"question": "g", "answers": []},
    ]
    assert [question.texts for question in grouped(rows)] == [
        ("a", "b", "f"),
        ("c",),
        ("d", "e"),
        ("g",),
    ]


def test_answers_of_all_texts_are_the_questions_whatever_their_case() -> None:
    rows: list[dict[str, object]] = [
        {"q1": "a", "q2": "b", "label": 1, "answers1": ["Bo"], "answers2": ["BO", "Ann"]},
        {"question": "a", "answers": ["bo Smith"]},
    ]
    assert grouped(rows) == [Question(("a", "b"), frozenset({"bo", "ann", "bo smith"}))]


pairs = st.lists(
    st.fixed_dictionaries(
        {
            "q1": st.sampled_from("abcdefgh"),
            "q2": st.sampled_from("abcdefgh"),
            "label": st.sampled_from([0, 1]),
        }
    ),
    max_size=20,
)


@given(pairs)
def test_every_text_is_in_exactly_one_question(rows: list[dict[str, object]]) -> None:
    questions = grouped(rows)
    texts = [text for question in questions for text in question.texts]
    assert sorted(texts) == sorted({str(row[q]) for row in rows for q in ("q1", "q2")})
    of = {text: number for number, question in enumerate(questions) for text in question.texts}
    assert all(of[str(row["q1"])] == of[str(row["q2"])] for row in rows if row["label"] == 1)


# A trace's order over other texts


def test_a_key_that_comes_back_asks_the_same_question() -> None:
    keys = ["x", "y", "x", "x", "z", "y"] * 5
    stream = traced_stream(keys, QUESTIONS, seed=1, rate=10, seconds=1.5)
    questions = [ask.question for ask in stream.asks]
    assert 6 < len(questions) < 30
    for (key, question), (other, another) in itertools.combinations(
        zip(keys, questions, strict=False), 2
    ):
        assert (key == other) == (question == another)


def test_a_text_of_the_question_comes_with_a_lead_in_or_without() -> None:
    stream = traced_stream("x" * 300, QUESTIONS, seed=1, rate=100, seconds=2)
    number = stream.asks[0].question
    expected = {lead.format(QUESTIONS[number].texts[0]) for lead in LEADS}
    assert {ask.text for ask in stream.asks} == expected


@pytest.mark.parametrize("lead", [lead for lead in LEADS if lead != "{}"])
def test_a_lead_in_gets_past_the_guards(lead: str) -> None:
    text = "which harbour is the oldest one in norway"
    assert veto(lead.format(text), text) is None


@pytest.mark.parametrize(
    ("keys", "questions", "fault"),
    [
        pytest.param(["x"] * 3, QUESTIONS, "the trace is over after 3", id="too short a trace"),
        pytest.param(map(str, range(99)), QUESTIONS[:2], "more than 2 questions", id="few texts"),
    ],
)
def test_a_stream_that_cannot_be_composed_says_why(
    keys: list[str], questions: list[Question], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        traced_stream(keys, questions, seed=1, rate=10, seconds=10)


def test_the_public_sets_are_read_from_their_folder(tmp_path: Path) -> None:
    for number, name in enumerate(PAIRS):
        row = {"q1": f"one {number}", "q2": f"two {number}", "label": 1}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    single = {"question": "single", "answers": ["Yes"]}
    (tmp_path / f"{ANSWERED}.jsonl").write_text(json.dumps(single) + "\n")
    with gzip.open(tmp_path / TRACE, "wt") as trace:
        trace.write("seq,key,type\n" + "".join(f"{n},{n % 6},0\n" for n in range(60)))
    stream = data_stream(tmp_path, seed=1, rate=10, seconds=4)
    assert len({ask.question for ask in stream.asks}) == len(PAIRS) + 1
    assert frozenset({"yes"}) in stream.answers.values()
