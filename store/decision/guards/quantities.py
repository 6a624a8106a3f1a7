"""The numbers of a text with what they measure: 2 km is 2000 m, "half" is 1/2, 3 pm is 15:00.

Values are compared exactly. A number that can be read in two ways (1.000, 007, v2.10) is compared
as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from store.decision.guards.measures import (
    CARDINALS,
    FRACTIONS,
    MULTIPLES,
    ORDINALS,
    SCALES,
    SUFFIXES,
    UNITS,
)

# A word first, since most pieces are one; it gives no letter back, so none is read twice.
_PIECE = re.compile(
    r"([^\W\d_]++)(?!\d)"
    r"|((?:(?<![\w)])[-+])?)([$€£¥]?)([^\W\d_]*+)(\d+(?:[.,:/]\d+)*)([^\W\d_]*%?)"
    r"|([%.!?;])"
)


class _Piece(NamedTuple):
    """A word, or a number in digits with what is written together with it, or a mark."""

    word: str
    sign: str
    money: str
    before: str
    digits: str
    after: str
    stop: str

    @property
    def bare(self) -> bool:
        return not (self.sign or self.money or self.before or self.after)


_DIGITS, _WORD = _Piece._fields.index("digits"), _Piece._fields.index("word")

_DIGIT = re.compile(r"\d")
_PLAIN = re.compile(r"\d+(?:\.\d+)?")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_CLOCK = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)")
_FRACTION = re.compile(r"(\d{1,9})/(\d{1,9})")
_LONGEST = 15  # digits that are computed with; a longer number is compared as it is written
_LARGEST = 10**18  # where "million million" stops being multiplied
NUMBER_WORDS = (
    CARDINALS.keys() | ORDINALS.keys() | MULTIPLES.keys() | FRACTIONS.keys()
    | {"hundred", "thousand", "million", "billion", "trillion", "dozen"}
)  # fmt: skip


class Quantity(NamedTuple):
    """One number of a text."""

    value: str  # as counted: "2" of "2 km"
    what: str  # what is measured; "" if nothing says it
    size: str  # in the smallest unit of that: "2000"
    written: bool  # in digits, and not as a word


_NONE = Decimal(0)


def _as_written(piece: _Piece) -> Quantity:
    return Quantity("".join(piece).lstrip("+"), "", "", True)


def _text(value: Decimal) -> str:
    if value == (whole := int(value)):
        return str(whole)
    return f"{value.normalize():f}"


class _Reader:
    """Walks over the pieces of one text."""

    def __init__(self, folded: str) -> None:
        self._pieces: list[tuple[str, ...]] = _PIECE.findall(folded)
        self._at = 0

    def read(self) -> tuple[Quantity, ...]:
        found = []
        starts = [
            at
            for at, piece in enumerate(self._pieces)
            if piece[_DIGITS] or piece[_WORD] in NUMBER_WORDS
        ]
        for at in starts:
            if at < self._at:
                continue  # read already, as part of the number before
            self._at = at
            piece = _Piece._make(self._pieces[at])
            quantity = self._in_digits(piece) if piece.digits else self._in_words()
            if quantity is not None:
                found.append(quantity)
        return tuple(found)

    def _word(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._pieces[at][_WORD] if 0 <= at < len(self._pieces) else ""

    def _in_digits(self, piece: _Piece) -> Quantity:
        self._at += 1
        digits, after = piece.digits, piece.after
        if piece.before or len(digits) > _LONGEST:
            return _as_written(piece)
        clock = self._clock(digits, after)
        if clock is not None:
            return clock
        value = _value(digits, bool(piece.money or after))
        if value is None:
            return _as_written(piece)
        if after in ("st", "nd", "rd", "th") and digits.isdigit():
            return Quantity(_text(value), "nth", _text(value), True)
        if after in SUFFIXES or (after == "m" and piece.money):
            value, after = value * SUFFIXES.get(after, 10**6), ""
        if after and after not in UNITS:
            return _as_written(piece)
        if not after:
            value = self._rest(value, digits) + self._and_a_half()
        return self._measured(-value if piece.sign == "-" else value, piece.money or after, True)

    def _rest(self, value: Decimal, digits: str) -> Decimal:
        """Read on: "2 1/2", "2 million"."""
        if self._at < len(self._pieces):
            following = _Piece._make(self._pieces[self._at])
            part = _FRACTION.fullmatch(following.digits) if "/" in following.digits else None
            if part and digits.isdigit() and following.bare:
                fraction = _value(part.group(), False)
                if fraction is not None and fraction < 1:
                    self._at += 1
                    return value + fraction
        while value < _LARGEST and (scale := SCALES.get(self._word())) is not None:
            self._at += 1
            value *= scale
        return value

    def _clock(self, digits: str, after: str) -> Quantity | None:
        half = after if after in ("am", "pm") else ""
        steps = 0
        following = "" if after else self._word()
        if following in ("am", "pm"):
            half, steps = following, 1
        elif following in ("a", "p") and self._word(2) == "m":
            half, steps = following + "m", 3
        elif following == "uhr":
            half, steps = "h", 1
        if not half and ":" not in digits:
            return None
        read = _CLOCK.fullmatch(digits if ":" in digits else f"{digits}:00" if half else "")
        if read is None or (after and after != half):
            return None
        self._at += steps
        hour, minute = int(read[1]), int(read[2])
        if half in ("am", "pm"):
            hour = hour % 12 + (12 if half == "pm" else 0)
        return Quantity(digits, "clock", str(hour * 60 + minute), True)

    def _in_words(self) -> Quantity | None:
        start, word = self._at, self._word()
        if word not in NUMBER_WORDS:
            return None
        if word in MULTIPLES:
            self._at += 1
            return Quantity(str(MULTIPLES[word]), "", str(MULTIPLES[word]), False)
        value = self._counted()
        named = FRACTIONS.get(self._word())
        if named and self._is_fraction(start):
            self._at += 1
            part = _text(Decimal(1 if value is None else value) / named)
            return Quantity(part, "", part, False)
        if value is None and word in ORDINALS:
            self._at += 1
            return Quantity(str(ORDINALS[word]), "nth", str(ORDINALS[word]), False)
        if value is None:
            return None
        ordinal = ORDINALS.get(self._word(), 0)
        if value % 10 == 0 and 0 < ordinal < 10 and value < 100:
            self._at += 1  # twenty-first
            return Quantity(str(value + ordinal), "nth", str(value + ordinal), False)
        return self._measured(value + self._and_a_half(), "", False)

    def _and_a_half(self) -> Decimal:
        if self._word() != "and" or self._word(1) not in ("a", "one"):
            return _NONE
        part = FRACTIONS.get(self._word(2), 0)
        if not part:
            return _NONE
        self._at += 3
        return Decimal(1) / part

    def _is_fraction(self, start: int) -> bool:
        """Whether "third" is a part and not a rank: "one third", "a third of it"."""
        word = self._word()
        if word[:4] in ("half", "halv", "quar") or word.endswith("s") or self._at > start:
            return True
        return self._word(1) == "of" and self._word(-1) not in ("the", "")

    def _counted(self) -> int | None:
        """Read a run of number words, "two thousand and six"; None if there is none."""
        total = current = 0
        start, last = self._at, 0
        while True:
            word = self._word()
            value, scale = CARDINALS.get(word), SCALES.get(word)
            if total + current > _LARGEST:
                return total + current
            if value is not None and (self._at == start or _goes_on(last, value)):
                current, last = current + value, value
            elif scale is not None and (self._at > start or word not in ("k", "bn")):
                current = (current or 1) * scale
                if scale >= 1000:
                    total, current = total + current, 0
                last = scale
            elif not (word == "and" and last >= 100 and self._word(1) in CARDINALS):
                return total + current if self._at > start else None
            self._at += 1

    def _measured(self, value: Decimal, unit: str, written: bool) -> Quantity:
        if not unit and self._at < len(self._pieces):
            following = _Piece._make(self._pieces[self._at])
            name = following.word or following.stop
            if name in UNITS and name != "percentage":
                unit = name
                self._at += 1
            elif name == "per" and self._word(1) == "cent":
                unit = "%"
                self._at += 2
        counted = _text(value)
        what, size = UNITS[unit] if unit else ("", 1)
        return Quantity(counted, what, counted if size == 1 else _text(value * size), written)


def _goes_on(last: int, value: int) -> bool:
    return (20 <= last < 100 and last % 10 == 0 and 0 < value < 10) or (
        last >= 100 and value < min(last, 1000)
    )


def _value(digits: str, measured: bool) -> Decimal | None:
    """Return what digits say, or None if that is not certain."""
    if digits.isdigit():
        return None if digits[0] == "0" and len(digits) > 1 else Decimal(digits)
    if (part := _FRACTION.fullmatch(digits)) and int(part[2]):
        return Decimal(part[1]) / Decimal(part[2])
    if _THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "")
    elif digits.count(",") == 1 and "." not in digits and not digits.startswith("0,000"):
        digits = digits.replace(",", ".")
    if not _PLAIN.fullmatch(digits) or (digits[0] == "0" and digits[1:2].isdigit()):
        return None
    whole, _, decimals = digits.partition(".")
    if len(decimals) == 3 and whole != "0":
        return None  # a thousand where the point groups digits
    if decimals.endswith("0") and decimals.strip("0") and not measured:
        return None  # version 3.10 is not 3.1
    try:
        return Decimal(digits)
    except InvalidOperation:  # pragma: no cover - digits only by now
        return None


def quantities_of(folded: str, words: frozenset[str]) -> tuple[Quantity, ...]:
    """Read the numbers of a text in lower case, in order; `words` are its words."""
    if words.isdisjoint(NUMBER_WORDS) and _DIGIT.search(folded) is None:
        return ()
    return _Reader(folded).read()


_WANTED = re.compile(r"\b(?:to|in|into|how many)\s+([a-z]+)\b")
_UNIT_NAMES = frozenset(UNITS) - {"in"}


def wanted_units(folded: str, words: frozenset[str]) -> frozenset[str]:
    """Return the units that a text wants its answer in: "how many miles", "to km"."""
    if words.isdisjoint(_UNIT_NAMES):
        return frozenset()
    return frozenset(
        f"{what} {size}"
        for name in _WANTED.findall(folded)
        if name in _UNIT_NAMES
        for what, size in (UNITS[name],)
    )


def numerals_of(quantities: tuple[Quantity, ...]) -> frozenset[str]:
    """Return all that may be said of some numbers: as counted, and in the smallest units."""
    return frozenset(said for q in quantities for said in (q.value, q.size) if said)


def has_stranger(quantities: tuple[Quantity, ...], numerals: frozenset[str]) -> bool:
    """Whether one of the numbers surely has no counterpart among those with these numerals.

    Two sums that differ mostly differ so, and to match all of their numbers takes ten times as
    long.
    """
    return any(q.value not in numerals and q.size not in numerals for q in quantities)


class Leftover(NamedTuple):
    """Numbers of one text without a counterpart in the other."""

    ours: tuple[Quantity, ...]
    theirs: tuple[Quantity, ...]


def unmatched(a: tuple[Quantity, ...], b: tuple[Quantity, ...]) -> Leftover:
    """Match numbers of the same size; then those of which one side does not say the unit."""
    if a == b:
        return Leftover((), ())
    ours, theirs = _without(a, b, _measure), _without(b, a, _measure)
    if not (ours and theirs):
        return Leftover(ours, theirs)
    mine, yours = _by_unit(ours), _by_unit(theirs)
    return Leftover(_only(mine, yours), _only(yours, mine))


class _ByUnit(NamedTuple):
    """Numbers by what is said of them.

    The word "one" is no "$1" without its unit: mostly it counts nothing, or something else. "The
    first" it may be.
    """

    units: tuple[Quantity, ...]
    ranks: tuple[Quantity, ...]
    bare: tuple[Quantity, ...]
    one: tuple[Quantity, ...]


def _by_unit(some: tuple[Quantity, ...]) -> _ByUnit:
    parts: tuple[list[Quantity], ...] = ([], [], [], [])
    for quantity in some:
        if quantity.what:
            parts[quantity.what == "nth"].append(quantity)
        else:
            parts[2 + (quantity.value == "1" and not quantity.written)].append(quantity)
    return _ByUnit._make(map(tuple, parts))


def _only(these: _ByUnit, others: _ByUnit) -> tuple[Quantity, ...]:
    """Return those whose value the others do not have, with a unit on one of both sides."""
    said = these.units + these.ranks
    left = _without(said, others.bare, _count)
    first = _without(tuple(q for q in left if q.what == "nth"), others.one, _count)
    return (
        *(quantity for quantity in left if quantity.what != "nth"),
        *first,
        *_without(these.bare, others.units + others.ranks, _count),
        *_without(these.one, others.ranks, _count),
    )


def _measure(quantity: Quantity) -> tuple[str, str]:
    return quantity.what, quantity.size or quantity.value


def _count(quantity: Quantity) -> tuple[str, str]:
    # "5" may be short for "5 dollars", but not for "5 %".
    return quantity.what if quantity.what == "percent" else "", quantity.value


def _without(
    a: tuple[Quantity, ...],
    b: tuple[Quantity, ...],
    key: Callable[[Quantity], tuple[str, str]],
) -> tuple[Quantity, ...]:
    if not (a and b):
        return a
    left: dict[tuple[str, str], int] = {}  # a Counter takes longer to make than these few to count
    for name in map(key, b):
        left[name] = left.get(name, 0) + 1
    kept = []
    for quantity in a:
        name = key(quantity)
        if left.get(name):
            left[name] -= 1
        else:
            kept.append(quantity)
    return tuple(kept)
