"""The questions are many, distinct, and reworded without touching what a guard looks at."""

from __future__ import annotations

import itertools
import re

import pytest

from bench.questions import (
    PLACES,
    REWORDED,
    STORED,
    WORDS,
    Subject,
    Supply,
    random_texts,
    rewordings,
    stored_question,
    subjects,
)
from store.decision.guards import veto

EXAMPLE = Subject("repair", "bicycle", "Lisbon")


def test_ten_thousand_distinct_questions_are_stored_in_a_fixed_order() -> None:
    questions = [stored_question(subject) for subject in subjects()]
    assert len(set(questions)) == len(questions) == 10_000
    assert subjects() == subjects()


def test_no_rewording_is_a_stored_question_or_another_rewording() -> None:
    texts = rewordings(subjects())
    assert len(set(texts)) == len(texts) == len(REWORDED) * 10_000
    assert not set(texts) & {stored_question(subject) for subject in subjects()}


def test_rewordings_ask_about_the_given_subjects_only() -> None:
    texts = rewordings([EXAMPLE])
    assert len(texts) == len(REWORDED)
    assert all("bicycle" in text and "Lisbon" in text for text in texts)


@pytest.mark.parametrize("template", REWORDED)
def test_a_rewording_keeps_its_words_and_gets_past_the_guards(template: str) -> None:
    reworded = template.format(**EXAMPLE._asdict())
    assert all(word in reworded for word in EXAMPLE)
    assert veto(reworded, stored_question(EXAMPLE)) is None


def test_questions_hold_no_numbers_and_need_no_escaping() -> None:
    for text in (STORED, *REWORDED, *WORDS, *(word for s in subjects() for word in s)):
        assert not re.search(r'[0-9"\\]', text)


def test_another_place_is_another_question_to_the_guards() -> None:
    lisbon, oslo = (stored_question(EXAMPLE._replace(place=place)) for place in PLACES[:2])
    assert veto(lisbon, oslo) == "names"


def test_random_texts_are_ten_words_and_never_the_same() -> None:
    texts = list(itertools.islice(random_texts(seed=5), 2000))
    assert len(set(texts)) == 2000
    assert {len(text.split()) for text in texts} == {10}
    assert next(random_texts(seed=5)) == texts[0] != next(random_texts(seed=6))


def test_a_supply_never_hands_out_what_was_used() -> None:
    supply = Supply(["a", "b", "c"])
    assert supply.peek(2) == ["a", "b"]
    assert supply.peek(2) == ["a", "b"]
    supply.use(2)
    assert supply.peek(1) == ["c"]
    with pytest.raises(ValueError, match="2 unused questions are needed, 1 are left"):
        supply.peek(2)
