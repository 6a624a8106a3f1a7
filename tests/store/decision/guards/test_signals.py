"""The score is told what the guards see, also where it forbids nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.decision.guards import SIGNAL_NAMES, signals


def told(query: str, stored: str) -> dict[str, float]:
    return dict(zip(SIGNAL_NAMES, signals(query, stored), strict=True))


@pytest.mark.parametrize(
    ("query", "stored", "expected"),
    [
        ("Is 5 more than 3?", "Is 5 more than 3?", {"numbers_equal": 1, "numbers_in_order": 1}),
        ("5 of 3", "3 of 5", {"numbers_equal": 1, "numbers_in_order": 0, "numbers_shared": 2}),
        ("5 of 3", "5", {"numbers_equal": 0, "numbers_left_query": 1, "numbers_left_stored": 0}),
        ("5", "5 of 3", {"numbers_left_query": 0, "numbers_left_stored": 1}),
        ("hi Marie Curie", "hi Curie", {"names_shared": 1, "names_left_query": 1}),
        ("hi Curie", "hi Marie Curie", {"names_left_query": 0, "names_left_stored": 1}),
        ("on Monday", "on Monday in May 2", {"calendar_shared": 1, "calendar_left": 1}),
        ("Who is it?", "Who was it?", {"asked_equal": 1, "asked_conflict": 0}),
        ("Who is it?", "When is it?", {"asked_equal": 0, "asked_conflict": 1}),
        ("Who is it?", "Tell me the rest", {"asked_conflict": 0, "asked_one_sided": 1}),
        ("cats and dogs", "dogs and cats", {"order_turned": 1, "order_swapped": 0}),
        ("cats chase dogs", "dogs chase cats", {"order_turned": 1, "order_swapped": 1}),
        ("cook rice now", "boil rice now", {"substituted": 1}),
        ("turn it on", "turn it off", {"polarity_opposed": 1}),
        ("it is not", "it is", {"negation_differs": 1, "negation_count": 1}),
        ("it is not, no", "it is not", {"negation_differs": 0, "negation_count": 1}),
        ("say `x` now", "say it now", {"quotes_left": 1}),
        ("call foo_bar", "call it", {"code_left": 1}),
        ("where is the cat of my aunt", "wo ist die Katze und der Hund", {"language_equal": 0}),
        ("say pago", "say pagó", {"letters_differ": 1}),
        ("dogs sleep", "dogs eat", {"overlap": 0.5}),
    ],
)
def test_a_difference_is_told(query: str, stored: str, expected: dict[str, float]) -> None:
    found = told(query, stored)
    assert {name: found[name] for name in expected} == expected


def test_names_are_given_once_each() -> None:
    assert len(set(SIGNAL_NAMES)) == len(SIGNAL_NAMES)


@given(st.text(max_size=60), st.text(max_size=60))
def test_signals_are_small_numbers_in_a_fixed_order(query: str, stored: str) -> None:
    found = signals(query, stored)
    assert len(found) == len(SIGNAL_NAMES)
    assert all(isinstance(value, float) and 0 <= value <= 8 for value in found)


@given(st.text(max_size=60), st.text(max_size=60))
def test_turned_round_only_the_two_sides_change_places(query: str, stored: str) -> None:
    ours, theirs = told(query, stored), told(stored, query)
    for name in SIGNAL_NAMES:
        other = name.replace("_query", "_#").replace("_stored", "_query").replace("_#", "_stored")
        assert ours[name] == theirs[other], name


@given(st.text(max_size=60))
def test_a_text_differs_from_itself_in_nothing(text: str) -> None:
    found = told(text, text)
    assert found["overlap"] == found["numbers_equal"] == found["numbers_in_order"] == 1
    assert found["asked_equal"] == found["language_equal"] == 1
    for name in ("left", "swapped", "turned", "opposed", "differs", "differ", "conflict"):
        assert all(found[full] == 0 for full in SIGNAL_NAMES if full.endswith(f"_{name}"))
