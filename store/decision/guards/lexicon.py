"""Words and phrases of two words that stand for something, found in a text once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from store.decision.guards.quantities import NUMBER_WORDS
from store.decision.guards.words import stem

Meaning = TypeVar("Meaning")
_NUMBER = "#"
_NUMBERS = frozenset(map(stem, NUMBER_WORDS))


class Lexicon(Generic[Meaning]):
    """What words mean, by their stems; a phrase ("square_root") hides what its words mean alone.

    In a phrase, "#" stands for any number.
    """

    def __init__(self, rows: Iterable[tuple[str, Meaning]]) -> None:
        self._words: dict[str, tuple[Meaning, ...]] = {}
        self._phrases: dict[tuple[str, str], tuple[Meaning, ...]] = {}
        for spelling, meaning in rows:
            said = tuple(stem(part) for part in spelling.split("_"))
            if len(said) == 1:
                self._words[said[0]] = _with(self._words.get(said[0], ()), meaning)
            else:
                phrase = said[0], said[1]
                self._phrases[phrase] = _with(self._phrases.get(phrase, ()), meaning)
        self._heads = frozenset(first for first, _ in self._phrases)
        self._tails = frozenset(last for first, last in self._phrases if first == _NUMBER)

    def find(self, stems: tuple[str, ...], words: frozenset[str]) -> dict[str, tuple[Meaning, ...]]:
        """Return what a text's stems mean, of those that mean something.

        `words` are the stems without repetition.
        """
        said: dict[str, tuple[Meaning, ...]] = {}
        if not (self._heads.isdisjoint(words) and self._tails.isdisjoint(words)):
            for first, last in zip(stems, stems[1:], strict=False):
                meanings = self._phrases.get((first, last))
                if meanings is None and last in self._tails and _is_number(first):
                    meanings, first = self._phrases.get((_NUMBER, last)), last
                if meanings is not None:
                    said[first] = _both(said.get(first, ()), meanings)
                    said[last] = _both(said.get(last, ()), meanings)
        for word in words & self._words.keys():
            if word not in said:
                said[word] = self._words[word]
        return said


def _is_number(word: str) -> bool:
    return word[0].isdigit() or word in _NUMBERS


def _both(meanings: tuple[Meaning, ...], others: tuple[Meaning, ...]) -> tuple[Meaning, ...]:
    return (*meanings, *(meaning for meaning in others if meaning not in meanings))


def _with(meanings: tuple[Meaning, ...], meaning: Meaning) -> tuple[Meaning, ...]:
    return meanings if meaning in meanings else (*meanings, meaning)
