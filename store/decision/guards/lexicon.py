"""Words and phrases of two words that stand for something, found in a text once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from store.decision.guards.quantities import NUMBER_WORDS
from store.decision.guards.words import Words, stem

Meaning = TypeVar("Meaning")
_NUMBER = "#"
_NUMBERS = frozenset(map(stem, NUMBER_WORDS))


class Read(NamedTuple):
    """The stems of a text, in no order."""

    words: frozenset[str]
    pairs: frozenset[tuple[str, str]]  # each with the one behind it


def read(words: Words) -> Read:
    """Read a text's stems."""
    stems = words.stems
    return Read(frozenset(stems), frozenset(zip(stems, stems[1:], strict=False)))


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
        self._counted = {last for first, last in self._phrases if first == _NUMBER}
        self._known = frozenset(self._words), frozenset(self._phrases)

    def find(self, read: Read) -> dict[str, tuple[Meaning, ...]]:
        """Return what a text's stems mean, of those that mean something."""
        words, phrases = self._known
        said: dict[str, tuple[Meaning, ...]] = {}
        for first, last in read.pairs & phrases:
            meanings = self._phrases[first, last]
            said[first] = _both(said.get(first, ()), meanings)
            said[last] = _both(said.get(last, ()), meanings)
        if not self._counted.isdisjoint(read.words):
            for first, last in read.pairs:
                if last in self._counted and _is_number(first):
                    said[last] = _both(said.get(last, ()), self._phrases[_NUMBER, last])
        for word in read.words & words:
            if word not in said:
                said[word] = self._words[word]
        return said


def _is_number(word: str) -> bool:
    return word[0].isdigit() or word in _NUMBERS


def _both(meanings: tuple[Meaning, ...], others: tuple[Meaning, ...]) -> tuple[Meaning, ...]:
    return (*meanings, *(meaning for meaning in others if meaning not in meanings))


def _with(meanings: tuple[Meaning, ...], meaning: Meaning) -> tuple[Meaning, ...]:
    return meanings if meaning in meanings else (*meanings, meaning)
