"""Whether a text says "not", and which side of an opposite it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from store.decision.guards.lexicon import Lexicon, Read
from store.decision.guards.opposites import ABROAD, BEGINNINGS, COUNTED, ENGLISH
from store.decision.guards.words import Words, stem

_NEGATIVE = frozenset(
    "not no never none nor neither nobody nothing without cannot unable except dont cant wont"
    " doesnt isnt didnt shouldnt couldnt wasnt arent havent hasnt nicht nie niemals ohne pas"
    " jamais sans nunca não sem non mai senza niet geen не нет без никогда".split()
)
_GERMAN_NO = "kein"
# "Without" in Spanish; but not the sine, nor a sin.
_SINE = re.compile(r"\bsin\s+(?:\d|of\b|and\b|[a-z]\b)|\b(?:the|a|is|what|of)\s+sin\b")

_SIDES = Lexicon(
    (word, (number, sign))
    for number, sides in enumerate(ENGLISH + ABROAD)
    for sign, words in zip((1, -1), sides, strict=True)
    for word in words.split()
)
# By whole words: "find" and "give" begin many a request, "finds" and "gives" tell of somebody.
_COUNTED = {
    word: (-1 - number, sign)
    for number, sides in enumerate(COUNTED)
    for sign, words in zip((1, -1), sides, strict=True)
    for word in words.split()
}


class Polarity(NamedTuple):
    """Which sides a text takes."""

    sides: frozenset[tuple[int, int]]  # (pair of opposites, side taken: 1 or -1)
    said: Mapping[str, tuple[tuple[int, int], ...]]  # by the stems that take them


def polarity_of(words: Words, stems: Read, counted: bool) -> Polarity:
    """Return every opposite that the words take sides in, unless they take both.

    `stems` are those of the words; `counted`: the text has a number.
    """
    said = _SIDES.find(stems)
    if counted:
        for word in words.tokens:
            if word in _COUNTED:
                said[stem(word)] = (*said.get(stem(word), ()), _COUNTED[word])
    if not said:
        return _NONE
    sides = {side for taken in said.values() for side in taken}
    return Polarity(frozenset((p, sign) for p, sign in sides if (p, -sign) not in sides), said)


_NONE = Polarity(frozenset(), {})


def opposed(a: Polarity, b: Polarity) -> frozenset[int]:
    """Return the pairs of opposites of which two texts take different sides."""
    return frozenset(pair for pair, side in a.sides if (pair, -side) in b.sides)


def taking(polarity: Polarity, pairs: frozenset[int]) -> frozenset[str]:
    """Return the stems by which a text takes sides in some pairs."""
    return frozenset(
        word for word, taken in polarity.said.items() if any(pair in pairs for pair, _ in taken)
    )


# What the same words are said with: anywhere else these are no opposites.
_AGAINST = frozenset(
    pair
    for first, last in (
        ("to", "from"), ("into", "from"), ("for", "against"), ("off", "of"), ("für", "gegen"),
        ("pour", "contre"), ("favor", "against"), ("all", "one"), ("all", "only"),
        ("all", "single"), ("all", "none"), ("every", "one"), ("he", "she"),
    )
    for pair in ((stem(first), stem(last)), (stem(last), stem(first)))
)  # fmt: skip
_OF_ALL = frozenset(pair for pair in _AGAINST if "all" in pair)
_TURNING = frozenset(word for pair in _AGAINST for word in pair) - {"to", "of", "for", "one"}
# "Vaccines against flu" are vaccines for it.
_EITHER_WAY = frozenset(
    map(
        stem,
        "vaccine vaccines vaccination vaccinated remedy remedies medicine protect protection cure"
        " insurance immune immunity drug drugs treatment help hilft impfung mittel".split(),
    )
)


def turns_round(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether one of two texts' stems say a word that may turn the other round."""
    return not _TURNING.isdisjoint(a ^ b) and _EITHER_WAY.isdisjoint(a)


def turned_round(framed: frozenset[tuple[str, str]]) -> bool:
    """Whether a text says `to` between the same two words between which the other says `from`."""
    return not _AGAINST.isdisjoint(framed)


def of_all(moved: frozenset[tuple[str, str]]) -> bool:
    """Whether a text says `all` behind the words behind which the other says `only` or `one`."""
    return not _OF_ALL.isdisjoint(moved)


_PREFIX = re.compile(r"(?:un|in|im|il|ir|non|dis|mis|de|dés|des)(?=[^\W\d_]{3})")
_TURNED: dict[str, tuple[str, ...]] = {}
for _first, _last in BEGINNINGS:
    _TURNED[_first] = (*_TURNED.get(_first, ()), _last)
    _TURNED[_last] = (*_TURNED.get(_last, ()), _first)


_BEGINNINGS = tuple(_TURNED)


def denials(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
    """Return stems that one text has and the other with a prefix that turns them; both forms.

    "Possible" and "impossible", "upgrade" and "downgrade".
    """
    ours, theirs = a - b, b - a
    if not (ours and theirs):
        return _NOTHING
    found: set[str] = set()
    for some, others in ((ours, theirs), (theirs, ours)):
        for word in some:
            for other in _turned(word):
                if other in others:
                    found.update((word, other))
    return frozenset(found)


_NOTHING: frozenset[str] = frozenset()


@lru_cache(maxsize=8192)
def _turned(word: str) -> tuple[str, ...]:
    """Return what a word is without a denying prefix, and with an opposite one."""
    if len(word) < 5:
        return ()
    found = [word[match.end() :] for match in (_PREFIX.match(word),) if match]
    for beginning in _BEGINNINGS:
        if word.startswith(beginning) and len(word) >= len(beginning) + 3:
            found += [other + word[len(beginning) :] for other in _TURNED[beginning]]
    return tuple(found)


def negations_of(tokens: tuple[str, ...], words: frozenset[str], folded: str) -> int:
    """Return how often a text says "not" in one of its forms.

    `words` are the tokens without repetition, `folded` is the text in lower case.
    """
    count = 0
    if "sin" in words and _SINE.search(folded) is None:
        count += sum(token == "sin" for token in tokens)
    if not words.isdisjoint(_NEGATIVE):
        count += sum(token in _NEGATIVE for token in tokens)
    if "n't" in folded or "n’t" in folded:
        count += sum(token[-3:] in ("n't", "n’t") for token in tokens)
    if _GERMAN_NO in folded:
        count += sum(token.startswith(_GERMAN_NO) for token in tokens)
    return count
