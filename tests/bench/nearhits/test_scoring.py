"""Answers and means."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nearhits.scoring import Interval, exact, gain_of, lenient, mean_of
from bench.nearhits.tasks import Item

WORD = Item("present-past", "Past of paint?", "painted")
LETTER = Item("capitalize_first_letter", "First letter of ladder?", "L")


@pytest.mark.parametrize(
    ("item", "text", "right"),
    [
        pytest.param(WORD, " Painted.", True, id="case, space and punctuation around it"),
        pytest.param(WORD, "painted it", False, id="a word too many"),
        pytest.param(WORD, "", False, id="nothing"),
        pytest.param(LETTER, '"L"', True, id="quoted"),
        pytest.param(LETTER, "l", False, id="case matters to the task"),
        pytest.param(Item("a", "?", "order  status"), "Order status", True, id="white space"),
    ],
)
def test_an_exact_answer(item: Item, text: str, right: bool) -> None:
    assert exact(item, text) is right


@pytest.mark.parametrize(
    ("item", "text", "right"),
    [
        pytest.param(WORD, 'The past tense is "painted", I think.', True, id="within a sentence"),
        pytest.param(WORD, "repainted", False, id="only as a part of a word"),
        pytest.param(LETTER, "It is l", False, id="case matters to the task"),
        pytest.param(Item("a", "?", "(B)"), "I say (B)!", True, id="with outer punctuation"),
    ],
)
def test_a_lenient_answer(item: Item, text: str, right: bool) -> None:
    assert lenient(item, text) is right


def test_what_is_exact_is_right_leniently_too() -> None:
    assert lenient(WORD, "Painted.")


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_a_mean_lies_in_its_interval(values: list[bool]) -> None:
    found = mean_of([float(value) for value in values])
    assert 0.0 <= found.low <= found.mean <= found.high <= 1.0
    assert found.n == len(values)


def test_a_mean_is_the_same_for_a_seed_and_is_told_in_percent() -> None:
    values = [0.0, 1.0] * 20
    assert mean_of(values, 3) == mean_of(values, 3)
    assert Interval(0.5, 0.352, 0.648, 40).percent() == "50 [35, 65]"


def test_no_values_have_no_mean() -> None:
    assert math.isnan(mean_of([]).mean)


def test_a_gain_is_paired() -> None:
    ours, theirs = [1.0, 1.0, 0.0, 1.0], [0.0, 0.0, -1.0, 0.0]
    assert gain_of(ours, theirs) == Interval(1.0, 1.0, 1.0, 4)


def test_unequal_numbers_of_answers_have_no_gain() -> None:
    with pytest.raises(ValueError):
        gain_of([1.0, 0.0, 1.0], [0.0, 1.0])
