"""What is read off an example's texts beforehand is what reading them at the time would say."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.answer_form import form_of
from icl.shown import TURN_TOKENS, Asked, Shown
from icl.suspicion import suspicious_turns
from icl.template import tokens_of
from icl.tokens import estimate
from tests.icl.candidates import TEXTS

ANSWERS = st.one_of(
    TEXTS, st.sampled_from(["Lima", " lima\n", "LIMA", "Li ma", "ss", "ß", "\ud800"])
)


def folded(answer: str) -> str:
    return " ".join(answer.casefold().split())


@given(TEXTS, ANSWERS)
def test_it_says_what_its_texts_say(question: str, answer: str) -> None:
    shown = Shown.read(question, answer)
    assert (shown.question, shown.answer) == (question, answer)
    assert shown.tokens == estimate(question) + estimate(answer) + TURN_TOKENS
    assert shown.asked == Asked(tokens_of(question), len(question))
    assert shown.asked.said == frozenset(tokens_of(question))
    assert shown.form is form_of(answer)


@given(TEXTS, ANSWERS)
def test_it_is_unfit_if_a_text_is_empty_or_steers_the_model(question: str, answer: str) -> None:
    empty = not question.strip() or not answer.strip()
    steers = suspicious_turns(question, answer) is not None
    expected = "empty" if empty else "suspicious" if steers else None
    assert Shown.read(question, answer).unfit == expected


@given(ANSWERS, ANSWERS)
def test_answers_are_the_same_whatever_their_case_and_blanks(one: str, other: str) -> None:
    same = Shown.read("?", one).folded == Shown.read("?", other).folded
    assert same is (folded(one) == folded(other))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How do I oil a hinge?", "With oil."),
        (" ".join(f"word{n}" for n in range(90)), "One sentence of an answer. " * 40),
        ("What is ß? " * 10, "Ö" * 4000),
    ],
)
def test_it_takes_less_memory_than_it_says_but_not_by_half(question: str, answer: str) -> None:
    tracemalloc.start()
    kept = {n: Shown.read(question + str(n), answer + str(n)) for n in range(200)}
    took, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    said = sum(shown.size for shown in kept.values())
    assert said / 2 <= took <= said
