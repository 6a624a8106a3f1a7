"""The guards themselves: each looks at two texts' marks and forbids a replay or does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from store.decision.guards import asked as asking
from store.decision.guards.dates import firm
from store.decision.guards.further import only_one_further
from store.decision.guards.kinds import exclusive, naming
from store.decision.guards.language import letters_differ
from store.decision.guards.marks import Marks, marks_of
from store.decision.guards.order import numbers_swapped, roles_reversed, swapped
from store.decision.guards.polarity import (
    denials,
    of_all,
    opposed,
    taking,
    turned_round,
    turns_round,
)
from store.decision.guards.quantities import Leftover, Quantity, has_stranger, unmatched
from store.decision.guards.tails import added
from store.decision.guards.words import framed, moved, overlap, substitutions

_CLOSE = 0.5  # of the words are shared: what differs is then the difference
_TWIN = 0.66  # the same text but for an edit; of long texts, rephrasings stay below
_SHORT = 15  # words of content; a longer text says much beside its question
_DEGREES = frozenset({"most", "least", "more", "less"})  # "cheapest" is not "most expensive"
_FEW = 8  # words in all, of which the empty ones count too


class Pair(NamedTuple):
    """Two texts' marks and what several guards ask of them."""

    a: Marks
    b: Marks
    overlap: float  # share of the longer text's words of content that both have
    short: bool  # either text is short
    close: bool  # they say much the same, so that an edit is what makes the difference


def pair_of(query: str, stored: str) -> Pair:
    """Return the marks of two texts, and how close they are."""
    a, b = marks_of(query), marks_of(stored)
    share = overlap(a.words, b.words)
    short = min(len(a.words.content), len(b.words.content)) <= _SHORT
    close = share >= (_CLOSE if short else _TWIN)
    if not close:
        longer = max(len(a.stems), len(b.stems))
        close = longer <= _FEW and len(a.stems & b.stems) >= _TWIN * longer
    return Pair(a, b, share, short, close)


def numbers_left(pair: Pair) -> Leftover:
    """Return the numbers without a counterpart."""
    return unmatched(pair.a.quantities, pair.b.quantities)


def _numbers(pair: Pair) -> bool:
    a, b = pair.a.quantities, pair.b.quantities
    if (a or b) and pair.a.wanted - pair.b.wanted and pair.b.wanted - pair.a.wanted:
        return True
    if a == b:
        return False
    if has_stranger(a, pair.b.numerals) and has_stranger(b, pair.a.numerals):
        return True
    left = unmatched(a, b)
    if left.ours and left.theirs:
        return True
    extra = left.ours or left.theirs
    if not extra:
        return numbers_swapped(pair.a.words, pair.b.words)
    if pair.overlap >= _TWIN and any(_counts(q, pair) for q in extra):
        return True
    values = {q.value for q in (a if left.theirs else b)}
    return any(q.written and q.value not in values for q in extra)


def _counts(quantity: Quantity, pair: Pair) -> bool:
    """Whether a number that one of two twins leaves out is what makes them differ."""
    if quantity.written:
        return True
    return quantity.value != "1" and (bool(quantity.what) or not pair.short)


def _negation(pair: Pair) -> bool:
    return (pair.a.negations > 0) != (pair.b.negations > 0) and pair.close


def _polarity(pair: Pair) -> bool:
    a, b = pair.a, pair.b
    if pair.close and turns_round(a.stems, b.stems):
        if turned_round(framed(a.words, b.words)):
            return True
        if "all" in a.stems ^ b.stems and of_all(moved(a.words, b.words)):
            return True
    denied = denials(a.words.content, b.words.content)
    pairs = opposed(a.polarity, b.polarity)
    if not denied and not pairs:
        return False
    return _alike_but_for(denied | taking(a.polarity, pairs) | taking(b.polarity, pairs), pair)


def _alike_but_for(apart: frozenset[str], pair: Pair) -> bool:
    """Whether two texts say much the same beside words that are known to set them apart."""
    a, b = pair.a.words.content, pair.b.words.content
    longer = max(len(a - apart - _DEGREES), len(b - apart - _DEGREES))
    return len(a & b) >= longer * (_CLOSE if pair.short else _TWIN)


def _question(pair: Pair) -> bool:
    return asking.conflicting(pair.a.asked, pair.b.asked, pair.close)


def _further(pair: Pair) -> bool:
    return pair.close and pair.short and only_one_further(pair.a.further, pair.b.further)


def _calendar(pair: Pair) -> bool:
    a, b = pair.a.calendar, pair.b.calendar
    if a == b:
        return False
    if a - b and b - a:
        return True
    return bool(firm(a ^ b)) and pair.short


def names_missing(pair: Pair) -> tuple[frozenset[str], frozenset[str]]:
    """Return each text's names that the other does not say at all, as stems."""
    a, b = pair.a, pair.b
    return a.names.firm - b.stems, b.names.firm - a.stems


def _names(pair: Pair) -> bool:
    a, b = pair.a, pair.b
    kinds = exclusive(a.kinds, b.kinds)
    if kinds and (
        pair.close or _alike_but_for(naming(a.kinds, kinds) | naming(b.kinds, kinds), pair)
    ):
        return True
    ours, theirs = names_missing(pair)
    related = pair.overlap >= _CLOSE  # else another name may be another word for the thing
    if ours and theirs and related:
        return True
    if ours or theirs:
        places = substitutions(a.words, b.words, certain=not related)
        if _replaced(ours, theirs, pair, places):
            return True
    ours |= a.names.loose - b.stems
    theirs |= b.names.loose - a.stems
    return bool(ours or theirs) and _replaced(ours, theirs, pair, framed(a.words, b.words))


def _replaced(
    ours: frozenset[str], theirs: frozenset[str], pair: Pair, pairs: frozenset[tuple[str, str]]
) -> bool:
    """Whether something else that only the other text says stands where one of these names does."""
    a, b = pair.a.words.content, pair.b.words.content
    return any((x in ours and y in b - a) or (y in theirs and x in a - b) for x, y in pairs)


def _quotes(pair: Pair) -> bool:
    a, b = pair.a, pair.b
    if a.quotes == b.quotes:
        return False
    ours = any(quote not in b.text for quote in a.quotes)
    theirs = any(quote not in a.text for quote in b.quotes)
    return ours and theirs


def _code(pair: Pair) -> bool:
    a, b = pair.a, pair.b
    ours = any(name not in b.text for name in a.identifiers)
    theirs = any(name not in a.text for name in b.identifiers)
    return (ours and theirs) or (a.operators != b.operators and bool(a.operators and b.operators))


def _letters(pair: Pair) -> bool:
    a, b = pair.a, pair.b
    return letters_differ(a.letters, b.letters, a.tokens, b.tokens)


def _language(pair: Pair) -> bool:
    a, b = pair.a.language, pair.b.language
    return bool(a and b) and a != b


def _order(pair: Pair) -> bool:
    a, b = pair.a, pair.b
    return swapped(a.words, b.words) or roles_reversed(a.role, b.role)


GUARDS: tuple[tuple[str, Callable[[Pair], bool]], ...] = (
    ("language", _language),
    ("numbers", _numbers),
    ("negation", _negation),
    ("polarity", _polarity),
    ("question", _question),
    ("further", _further),
    ("calendar", _calendar),
    ("quotes", _quotes),
    ("code", _code),
    # To the encoder white space is nothing; to code it is meaning.
    ("layout", lambda pair: pair.a.layout != pair.b.layout),
    # The encoder drops accents, and reads scripts beyond Latin letter by letter if at all.
    ("letters", _letters),
    ("order", _order),
    ("names", _names),
    ("tail", lambda pair: added(pair.a.tail, pair.b.tail)),
)


def veto(query: str, stored: str) -> str | None:
    """Return the name of the first guard that forbids replaying `stored`'s answer to `query`."""
    if query == stored:
        return None
    pair = pair_of(query, stored)
    return next((name for name, forbids in GUARDS if forbids(pair)), None)


def vetoes(query: str, stored: str) -> tuple[str, ...]:
    """Return the names of all guards that forbid it."""
    if query == stored:
        return ()
    pair = pair_of(query, stored)
    return tuple(name for name, forbids in GUARDS if forbids(pair))
