"""Roman numerals are numbers behind a name, and letters anywhere else."""

from __future__ import annotations

import pytest

from store.decision.guards.roman import in_digits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("who was henry viii", "who was henry 8"),
        ("World War II", "World War 2"),
        ("when did world war i start", "when did world war 1 start"),
        ("WWII and ww1", "world war 2 and world war 1"),
        ("Super Bowl XLVIII", "Super Bowl 48"),
        ("type i and ii diabetes", "type 1 and 2 diabetes"),
        ("Star Wars: Episode IV", "Star Wars: Episode 4"),
        ("Henry VIII's wife", "Henry 8's wife"),
        ("what is stage iv cancer", "what is stage 4 cancer"),
    ],
)
def test_a_numeral_behind_a_name_is_a_number(text: str, expected: str) -> None:
    assert in_digits(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "how do I use vi",
        "an iv drip",
        "roe v wade",
        "Malcolm X",
        "which part i need",
        "the chapter I should read",
        "the war I saw",
        "the war I fought in",
        "x v i",
        "mix civic did",
        "Henry's I",
        "xl shirts",
        "what is x",
    ],
)
def test_the_same_letters_elsewhere_stay(text: str) -> None:
    assert in_digits(text) == text


@pytest.mark.parametrize("text", ["Who won World War II?", "Henry V and I", "final fantasy vii"])
def test_how_it_is_written_does_not_matter(text: str) -> None:
    assert in_digits(text.upper()).casefold() == in_digits(text.lower())
