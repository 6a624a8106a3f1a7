"""Numbers are compared by what they come to, with their units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.decision.guards import marks_of
from store.decision.guards.quantities import Quantity, has_stranger, unmatched

SAME = [
    ("2 km", "2000 m"),
    ("2km", "2,000 metres"),
    ("1.5 hours", "90 minutes"),
    ("2 weeks", "14 days"),
    ("2k followers", "2000 followers"),
    ("two thousand followers", "2,000 followers"),
    ("1.5 million people", "1,500,000 people"),
    ("two hundred and five", "205"),
    ("twenty-one guns", "21 guns"),
    ("the twenty-first time", "the 21st time"),
    ("the first time", "the 1st time"),
    ("$5", "5 dollars"),
    ("$5.50", "$5.5"),
    ("it is $1", "it is 1"),
    ("one of two rooms", "the first of two rooms"),
    ("50 cents", "$0.50"),
    ("€5", "5 euros"),
    ("it is $5", "it is 5"),
    ("5 %", "5 percent"),
    ("5%", "5 per cent"),
    ("1/2", "0.5"),
    ("half of it", "1/2 of it"),
    ("one third of it", "1/3 of it"),
    ("a third of it", "1/3 of it"),
    ("two-thirds", "2/3"),
    ("a quarter", "0.25"),
    ("2 1/2 cups", "2.5 cups"),
    ("2 and a half hours", "2.5 hours"),
    ("two and a half hours", "2 1/2 hours"),
    ("twice", "2 times"),
    ("thrice", "3 times"),
    ("a dozen eggs", "12 eggs"),
    ("two dozen eggs", "24 eggs"),
    ("3 pm", "15:00"),
    ("3:05 pm", "15:05"),
    ("3pm", "3 p.m."),
    ("12 am", "0:00"),
    ("15 Uhr", "15:00"),
    ("on 2024-01-02", "on January 2, 2024"),
    ("on 2 Jan 2024", "on January 2nd, 2024"),
    ("on 02.01.2024", "on 2 January 2024"),
    ("on 25/12/2024", "on 2024-12-25"),
    ("+5", "5"),
    ("a 64-bit number", "a 64 bit number"),
    ("zwei Stunden", "2 Stunden"),
    ("five and 5", "5 and five"),
]
OTHER = [
    ("2 km", "2 miles"),
    ("2 km", "200 m"),
    ("2 hours", "2 days"),
    ("5%", "5"),
    ("5%", "$5"),
    ("$5", "€5"),
    ("-5", "5"),
    ("3.1", "3.10"),
    ("1.000", "1"),
    ("1.000", "1000"),
    ("007", "7"),
    ("v2.1", "v2.10"),
    ("1.2.3", "1.2.4"),
    ("A4", "A5"),
    ("room 12", "room 12b"),
    ("3 pm", "3 am"),
    ("1/2", "1/3"),
    ("half", "a quarter"),
    ("the third one", "the fourth one"),
    ("01/02/2024", "2024-02-01"),
    ("20 °C and 30", "20 °C and 31"),
    ("12345678901234567890", "12345678901234567891"),
    ("3 and 3 and 5", "3 and 5 and 5"),
    ("2 and a half hours", "2 hours"),
    ("zwei", "drei"),
    ("a discount of $1", "one of the tickets"),
    ("the one in 1 km", "the one in a mile"),
]


def left(a: str, b: str) -> tuple[tuple[Quantity, ...], tuple[Quantity, ...]]:
    return unmatched(marks_of(a).quantities, marks_of(b).quantities)


@pytest.mark.parametrize(("a", "b"), SAME)
def test_another_spelling_of_a_number_is_the_number(a: str, b: str) -> None:
    assert marks_of(a).quantities
    assert left(a, b) == left(b, a) == ((), ())


@pytest.mark.parametrize(("a", "b"), OTHER)
def test_another_number_is_told_apart(a: str, b: str) -> None:
    ours, theirs = left(a, b)
    assert ours or theirs
    assert left(b, a) == (theirs, ours)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a second opinion", 1),
        ("no number here", 0),
        ("one of them", 1),
        ("two hundred and six", 1),
        ("two and six", 2),
        ("five six seven", 3),
        ("from 2 to 3", 2),
        ("2-3", 2),
        ("1,2", 1),
        ("two million three thousand", 1),
        ("ten thousand and one nights", 1),
    ],
)
def test_numbers_are_counted_as_they_are_said(text: str, count: int) -> None:
    assert len(marks_of(text).quantities) == count


def test_a_number_without_end_is_read() -> None:
    for text in ("million " * 5000, "2 million " + "million " * 5000, "9" * 10_000, "1/" * 10_000):
        assert marks_of(text).quantities


@given(st.integers(0, 10**6), st.sampled_from(["km", "kg", "hours", "cm", "GB"]))
def test_a_unit_is_worth_what_it_is_worth(number: int, unit: str) -> None:
    smaller, times = {
        "km": ("m", 1000), "kg": ("g", 1000), "hours": ("minutes", 60), "cm": ("mm", 10),
        "GB": ("MB", 1000),
    }[unit]  # fmt: skip
    assert left(f"{number} {unit}", f"{number * times} {smaller}") == ((), ())
    assert left(f"{number + 1} {unit}", f"{number * times} {smaller}") != ((), ())


@given(st.integers(0, 999), st.integers(1, 999))
def test_a_fraction_is_its_value(above: int, below: int) -> None:
    assert left(f"{above}/{below} of it", f"{above * 2}/{below * 2} of it") == ((), ())
    assert left(f"{above}/{below} of it", f"{above + 1}/{below} of it") != ((), ())


NUMBERS = st.lists(
    st.sampled_from(["1", "one", "$1", "2 km", "2000 m", "2000", "the first", "half", "v2", "5%"]),
    max_size=5,
).map(", ".join)


@given(NUMBERS, NUMBERS)
def test_what_is_a_stranger_at_first_sight_has_no_counterpart(a: str, b: str) -> None:
    ours, theirs = marks_of(a), marks_of(b)
    left_ours, left_theirs = left(a, b)
    if has_stranger(ours.quantities, theirs.numerals):
        assert left_ours
    if has_stranger(theirs.quantities, ours.numerals):
        assert left_theirs
