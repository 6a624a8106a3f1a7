"""Words and phrases are found by their stems, and a phrase hides the words in it."""

from __future__ import annotations

from store.decision.guards.lexicon import Lexicon, read
from store.decision.guards.words import words_of

LEXICON = Lexicon([("square", 2), ("square_root", -2), ("#_times", 7), ("cube", 3), ("cube", 9)])


def found(text: str) -> set[int]:
    return {
        meaning for meanings in LEXICON.find(read(words_of(text))).values() for meaning in meanings
    }


def test_a_word_means_all_that_it_stands_for() -> None:
    assert found("two cubes") == {3, 9}
    assert found("nothing") == set()


def test_a_phrase_hides_its_words() -> None:
    assert found("the square root of a cube") == {-2, 3, 9}
    assert found("the root of a square") == {2}


def test_any_number_stands_in_a_phrase() -> None:
    assert found("12 times 4") == found("ten times four") == {7}
    assert found("many times") == set()
