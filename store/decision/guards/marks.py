"""What of a text must not differ from another's, read once a text."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from store.decision.guards.asked import asked_of
from store.decision.guards.code import identifiers_of, layout_of, operators_of
from store.decision.guards.dates import calendar_of, spelled_out
from store.decision.guards.language import foreign_of, language_of
from store.decision.guards.names import Names, names_of, quotes_of
from store.decision.guards.polarity import negations_of, polarity_of
from store.decision.guards.quantities import Quantity, quantities_of
from store.decision.guards.words import Words, words_of


class Marks(NamedTuple):
    """What the guards compare of one text."""

    words: Words
    quantities: tuple[Quantity, ...]  # in order
    negations: int
    polarity: frozenset[tuple[int, int]]  # (pair of opposites, side taken: 1 or -1)
    asked: frozenset[str]
    calendar: frozenset[str]
    names: Names
    quotes: frozenset[str]
    identifiers: frozenset[str]
    operators: tuple[str, ...]
    language: str  # "" if it is not certain
    foreign: frozenset[str]  # words with a letter beyond ASCII
    layout: tuple[str, ...]
    text: str


@lru_cache(maxsize=4096)
def marks_of(text: str) -> Marks:
    """Read a text's marks. Remembered for the most recent texts: stored queries come up again."""
    folded = spelled_out(text.casefold())
    words = words_of(folded)
    tokens = frozenset(words.tokens)
    ascii_only = text.isascii()
    language = language_of(words.tokens, ascii_only)
    return Marks(
        words=words,
        quantities=quantities_of(folded, tokens),
        negations=negations_of(words.tokens),
        polarity=polarity_of(tokens),
        asked=asked_of(folded, tokens),
        calendar=calendar_of(folded, tokens, language),
        names=names_of(text),
        quotes=quotes_of(text),
        identifiers=identifiers_of(text),
        operators=operators_of(text),
        language=language,
        foreign=frozenset() if ascii_only else foreign_of(words.tokens),
        layout=layout_of(text),
        text=text,
    )
