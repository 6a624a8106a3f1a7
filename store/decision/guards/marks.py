"""What of a text must not differ from another's, read once a text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from store.decision.guards.asked import asked_of
from store.decision.guards.code import identifiers_of, layout_of, operators_of
from store.decision.guards.dates import calendar_of, spelled_out
from store.decision.guards.further import Further, further_of
from store.decision.guards.kinds import Kinds, kinds_of
from store.decision.guards.language import NO_LETTERS, Letters, language_of, letters_of
from store.decision.guards.lexicon import read
from store.decision.guards.names import Names, names_of, quotes_of
from store.decision.guards.order import Role, role_of
from store.decision.guards.polarity import Polarity, negations_of, polarity_of
from store.decision.guards.quantities import (
    Quantity,
    numerals_of,
    quantities_of,
    wanted_units,
)
from store.decision.guards.roman import in_digits
from store.decision.guards.tails import Tail, tail_of
from store.decision.guards.words import Words, words_of

# "Does A beat B": a letter that stands for something is no article.
_NO_ARTICLE = re.compile(r"(?<=[^\W_] )A(?=[,;?!.]|$| [^A-Z])")
_A_TO_Z = re.compile(r"\ba(?= to z\b)|(?<=\bz to )a\b")
_CAPITAL_NOUNS = frozenset({"de"})  # where every noun is written like a name
_SYMBOLIC = re.compile(r"(?<!\w)([a-z])(\+\+|#)")


def _spoken(match: re.Match[str]) -> str:
    return match[1] + ("plusplus" if match[2] == "++" else "sharp")


class Marks(NamedTuple):
    """What the guards compare of one text."""

    words: Words
    role: Role | None  # who does it, or whom it is done to, where that is asked
    tokens: frozenset[str]
    stems: frozenset[str]
    quantities: tuple[Quantity, ...]  # in order
    numerals: frozenset[str]  # of the quantities
    wanted: frozenset[str]  # units that are asked for
    negations: int
    polarity: Polarity
    kinds: Kinds
    asked: frozenset[str]
    further: Further
    calendar: frozenset[str]
    names: Names
    quotes: frozenset[str]
    identifiers: frozenset[str]
    operators: tuple[str, ...]
    language: str  # "" if it is not certain
    letters: Letters
    layout: tuple[str, ...]
    tail: Tail
    text: str


@lru_cache(maxsize=4096)
def marks_of(text: str) -> Marks:
    """Read a text's marks. Remembered for the most recent texts: stored queries come up again."""
    numbered = in_digits(text)
    folded = spelled_out(_NO_ARTICLE.sub("aa", numbered).casefold())
    if " to z" in folded or "z to " in folded:
        folded = _A_TO_Z.sub("aa", folded)
    spoken: list[str] = []
    if "+" in folded or "#" in folded:
        spoken = [_spoken(match) for match in _SYMBOLIC.finditer(folded)]
        folded = _SYMBOLIC.sub(_spoken, folded)
    words = words_of(folded)
    tokens = frozenset(words.tokens)
    stems = read(words)
    ascii_only = text.isascii()
    language = language_of(folded, tokens, ascii_only)
    quantities = quantities_of(folded, tokens)
    names = names_of(numbered, words, spoken)
    return Marks(
        words=words,
        role=role_of(words),
        tokens=tokens,
        stems=stems.words,
        quantities=quantities,
        numerals=numerals_of(quantities),
        wanted=wanted_units(folded, tokens),
        negations=negations_of(words.tokens, tokens, folded),
        polarity=polarity_of(words, stems, bool(quantities)),
        kinds=kinds_of(stems),
        asked=asked_of(folded, words.tokens, tokens),
        further=further_of(folded, tokens),
        calendar=calendar_of(folded, tokens, language),
        names=names.loosely() if language in _CAPITAL_NOUNS else names,
        quotes=quotes_of(text),
        identifiers=identifiers_of(text),
        operators=operators_of(text),
        language=language,
        letters=NO_LETTERS if ascii_only else letters_of(words.tokens),
        layout=layout_of(text),
        tail=tail_of(text, words),
        text=text,
    )
