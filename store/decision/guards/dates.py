"""Days, months and seasons, in several languages and spellings: 2024-01-02 is January 2, 2024."""

from __future__ import annotations

import re

_MONTHS = (
    "january jan januar janvier enero gennaio janeiro",
    "february feb februar février febrero febbraio fevereiro",
    "march mar märz avril_ marzo março",
    "april apr avril abril aprile",
    "may_ mayo maggio maio",
    "june jun juni juin junio giugno junho",
    "july jul juli juillet julio luglio julho",
    "august aug août agosto",
    "september sep sept septembre septiembre settembre setembro",
    "october oct oktober octobre octubre ottobre outubro",
    "november nov novembre noviembre novembro",
    "december dec dezember décembre diciembre dicembre dezembro",
)
_DAYS = (
    "monday mon montag lundi lunes lunedì", "tuesday tue tues dienstag mardi martes martedì",
    "wednesday wed mittwoch mercredi miércoles mercoledì",
    "thursday thu thurs donnerstag jeudi jueves giovedì",
    "friday fri freitag vendredi viernes venerdì",
    "saturday samstag samedi sábado sabato", "sunday sonntag dimanche domingo domenica",
)  # fmt: skip
_RELATIVE = (
    "today heute hoy aujourd oggi hoje", "tomorrow morgen demain mañana domani amanhã",
    "yesterday gestern hier ayer ieri ontem",
)  # fmt: skip
# Said or left out without asking for something else: told to the score, not a veto.
_LOOSE = frozenset(
    "today tonight weekday weekdays weekend weekends spring summer autumn winter morning noon"
    " afternoon evening midnight".split()
)
_SHORT = frozenset("mon tue wed thu fri jan feb mar apr jun jul aug sep sept oct nov dec".split())
_IN_GERMAN = frozenset({"morgen"})
_IN_FRENCH = frozenset({"hier"})

_NAMED = {
    word: row.split()[0].rstrip("_")
    for row in (*_MONTHS, *_DAYS, *_RELATIVE)
    for word in row.split()
    if not word.endswith("_")
}
MONTHS = tuple(row.split()[0].rstrip("_") for row in _MONTHS)
# A word that is also something else is a date only beside a number.
_ISO = re.compile(r"(?<![\w-])(\d{4})-(\d{2})-(\d{2})(?![\w-])")
_SLASHED = re.compile(r"(?<![\w/])(\d{1,2})[/.](\d{1,2})[/.](\d{4})(?![\w/])")
_MAY = re.compile(
    r"\b(?:may\s+\d|\d(?:st|nd|rd|th)?\s+(?:of\s+)?may\b|(?:in|of|by|last|next)\s+may\b)"
)
_NEAR = re.compile(r"\b(next|last|this|past|previous|coming)\s+(week|month|year|quarter|decade)\b")
WORDS = frozenset(_NAMED) | _LOOSE | {"may"}


def spelled_out(folded: str) -> str:
    """Return the text with its all-digit dates as "2 january 2024", where they can be told."""
    if "-" in folded:
        folded = _ISO.sub(lambda m: _day(m[1], m[2], m[3]) or m[0], folded)
    if "/" in folded or "." in folded:
        folded = _SLASHED.sub(_slashed, folded)
    return folded


def _slashed(match: re.Match[str]) -> str:
    first, second = int(match[1]), int(match[2])
    if first > 12 or "." in match[0]:
        return _day(match[3], match[2], match[1]) or match[0]
    if second > 12 or first == second:
        return _day(match[3], match[1], match[2]) or match[0]
    return match[0]  # the second of January, or the first of February


def _day(year: str, month: str, day: str) -> str | None:
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return None
    return f"{int(day)} {MONTHS[int(month) - 1]} {year}"


def calendar_of(folded: str, words: frozenset[str], language: str) -> frozenset[str]:
    """Return the days, months and seasons that a text in lower case names, in English."""
    found = words & WORDS
    named = set()
    for word in found:
        if word == "may":
            if _MAY.search(folded):
                named.add("may")
        elif word in _LOOSE:
            named.add(word)
        elif (
            (word in _SHORT and not re.search(rf"\b{word}\b\.?,?\s*\d|\d\s*{word}\b", folded))
            or (word in _IN_GERMAN and language != "de")
            or (word in _IN_FRENCH and language != "fr")
        ):
            continue
        else:
            named.add(_NAMED[word])
    if not words.isdisjoint(("next", "last", "this", "past", "previous", "coming")):
        named.update(f"{near} {span}" for near, span in _NEAR.findall(folded))
    return frozenset(named)


def firm(calendar: frozenset[str]) -> frozenset[str]:
    """Return what of a calendar is not left out lightly."""
    return calendar - _LOOSE
