"""Guards veto a replay when a number, a name, a quote, a "not" or an opposite differs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.decision.guards import veto

OTHER_QUESTIONS = [
    ("How long may I return order 5123?", "How long may I return order 5124?", "numbers"),
    ("Convert 12 from base 5 to base 7", "Convert 12 from base 7 to base 5", "numbers"),
    ("Tom buys 3 pens and 4 books", "Tom buys 3 pens and 4.5 books", "numbers"),
    ("Is -5 colder than the sea?", "Is 5 colder than the sea?", "numbers"),
    ("What changed in v2.1?", "What changed in v2.10?", "numbers"),
    ("Explain the second law of motion", "Explain the third law of motion", "numbers"),
    ("Take two pills a day", "Take three pills a day", "numbers"),
    ("A fee of 5% applies", "A fee of $5 applies", "numbers"),
    ("Is this mushroom safe to eat?", "Is this mushroom not safe to eat?", "negation"),
    ("Why does my pipe leak?", "Why doesn't my pipe leak?", "negation"),
    ("Ist das erlaubt?", "Ist das nicht erlaubt?", "negation"),
    ("How do I enable two-factor login?", "How do I disable two-factor login?", "polarity"),
    ("How do I turn on the alarm?", "How do I turn off the alarm?", "polarity"),
    ("Sort the list ascending", "Sort the list descending", "polarity"),
    ("May I eat before the blood test?", "May I eat after the blood test?", "polarity"),
    ("Which city has more rain?", "Which city has less rain?", "polarity"),
    ("Find a flight to Rome in spring", "Find a flight to Milan in spring", "names"),
    ("tell me about Ann", "tell me about the annual report", "names"),
    ("When was the contract signed?", "Where was the contract signed?", "question"),
    ("How many people live there?", "How long do people live there?", "question"),
    ("What are the Monday opening hours?", "What are the Sunday opening hours?", "calendar"),
    ("Convert miles to kilometers", "Convert kilometers to miles", "order"),
    ("Does the dog chase the cat?", "Does the cat chase the dog?", "order"),
    ("A flight from Rome to Milan", "A flight from Milan to Rome", "order"),
    (
        "May a manager approve a clerk's request?",
        "May a clerk approve a manager's request?",
        "order",
    ),
    ("Translate pago into English", "Translate pagó into English", "letters"),
    ("Где мой дом?", "Где мои дом?", "letters"),
    ("怎样关闭闹钟", "怎样打开闹钟", "letters"),
    ("Explain:\nif a:\n    b()\nc()", "Explain:\nif a:\n    b()\n    c()", "layout"),
    ("What does `foo` do?", "What does `Foo` do?", "quotes"),
    ('Translate "well done" for me', 'Translate "good job" for me', "quotes"),
]
SAME_QUESTIONS = [
    ("How do I sell a piano in Rome?", "What is the way to sell a piano in Rome?"),
    ("Tell me about the history of tea", "Please describe the history of tea for me"),
    ("What is the capital of France?", "What's the capital city of France?"),
    ("What is the capital of France?", "what is the capital of france"),
    ("How do I turn on dark mode?", "How can I switch on dark mode?"),
    ("Send it to 2,000 people", "Send this to 2000 people"),
    ("Explain how tides work.", "Can you explain how the tides work?"),
    ("Which café in Rome is open?", "What café in Rome is open?"),
    ("Why can't I log in?", "Why can’t I log in?"),
]


@pytest.mark.parametrize(("query", "stored", "guard"), OTHER_QUESTIONS)
def test_another_question_is_vetoed_by_the_guard_that_sees_it(
    query: str, stored: str, guard: str
) -> None:
    assert veto(query, stored) == guard


@pytest.mark.parametrize(("query", "stored"), SAME_QUESTIONS)
def test_a_rephrasing_passes(query: str, stored: str) -> None:
    assert veto(query, stored) is None


@given(st.text(max_size=200))
def test_a_text_never_vetoes_itself(text: str) -> None:
    assert veto(text, text) is None


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_veto_does_not_depend_on_which_text_was_stored(a: str, b: str) -> None:
    assert (veto(a, b) is None) == (veto(b, a) is None)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_changed_numbers_never_pass(a: int, b: int) -> None:
    same = veto(f"Is {a} prime?", f"Is {b} prime?") is None
    assert same == (a == b)
