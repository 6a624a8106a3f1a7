"""Rules that find a person: names where they are introduced, addresses, dates of birth, numbers.

Names stand only where the text says so ("my name is", "Mrs.", below a greeting at the end): a
capital alone makes no name, and an ordinary question must stay as it is.
"""

from __future__ import annotations

import re

from icl.scrub_rule import DIGITS, Rule

_CAPITAL = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĖĘĚĞĢĪĶŁŃŇŐŘŚŠŞŤŪŮŰŹŻŽ"
_NAME = rf"[{_CAPITAL}][\w'’-]{{1,30}}"
_NAMES = rf"{_NAME}(?: (?:{_NAME}|[{_CAPITAL}]\.|van|von|de|da|bin|al)){{0,3}}"
# Capitalised words behind "I am" or a title that name nobody.
_NO_NAME = frozenset(
    "american english british french german italian spanish portuguese dutch polish russian turkish"
    " chinese japanese korean indian mexican canadian australian brazilian irish scottish welsh"
    " swiss austrian swedish danish norwegian finnish greek christian muslim jewish hindu buddhist"
    " catholic asian african european arab ukrainian not so very still also just now here there in"
    " on at a an the from with for and or but looking trying using going getting writing working"
    " sure sorry afraid aware glad happy sad new student developer teacher word excel office"
    " powerpoint windows python java javascript linux monday tuesday wednesday thursday friday"
    " saturday sunday correct wrong unknown empty required missing too is it this that".split()
)
_INTRODUCED = re.compile(
    r"\b((?i:my (?:full |first |last )?name(?: is|['’]s)|name['’]s|call me|named after"
    rf"|ich heiße|mein name ist|je m['’]appelle|me llamo|mi chiamo|signed,?)[:,]? )({_NAMES})"
)
_LOWER = re.compile(r"\b(my (?:full |first |last )?name(?: is|['’]s) )([a-z][\w'’-]{1,30})\b", re.I)
_I_AM = re.compile(rf"\b((?:I am|I['’]m|i am|i['’]m|[Tt]his is|Ich bin|Je suis|Soy) )({_NAMES})")
_TITLED = re.compile(
    rf"\b((?:Mr|Mrs|Ms|Mx|Miss|Dr|Prof|Professor|Herr|Frau|Señora?|Monsieur|Madame)\.? )({_NAMES})"
)
_SIGNED = re.compile(
    r"(?m)^((?:(?i:best|kind|warm|warmest|kindest|many|with|yours) ){0,2}"
    r"(?i:regards|wishes|thanks|sincerely|cheers|truly|faithfully|love|grüße|cordialement)"
    rf"[,!.]?[ \t]{{0,4}}\n[ \t\n]{{0,8}})({_NAMES})"
)
_DEAR = re.compile(rf"(?m)^((?:Dear|Liebe[rs]?|Cher|Chère|Querid[oa]) )({_NAMES})(?=[,:!\n]|$)")
_LISTED = re.compile(
    r"(?i:\b((?:(?:full|first|last|family)[ _-]?name|(?:customer|client|patient|employee|contact"
    r"|cardholder|sender|recipient|account holder)(?:['’]s)?(?:[ _-]?name)?) ?: {0,3}))"
    rf"({_NAMES})"
)
_NOBODY_DEAR = frozenset("sir madam sirs all team customer hiring colleagues friends diary".split())

_DATE = (
    r"(?:\d{1,4}[./-]\d{1,2}[./-]\d{2,4}"
    r"|\d{1,2}(?:st|nd|rd|th)?\.?(?: of)? [A-Za-zäé]{3,9}\.?,? \d{2,4}"
    r"|[A-Z][a-z]{2,8}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4})"
)
_BORN = re.compile(
    r"(?i:\b((?:date of birth|birth[ -]?date|d\.?o\.?b\.?|born(?: on)?|birthday(?: is| on)?"
    r"|geboren(?: am)?|geburtsdatum|née? le|fecha de nacimiento)"
    rf"(?: is| was| on)?[\s:=,(-]{{1,4}}))({_DATE})"
)
_STREETS = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Square|Sq|Terrace"
    r"|Place|Pl|Way|Close|Crescent|Parkway|Pkwy|Highway|Hwy)"
)
_TAIL = (
    r"(?:,? (?:Apt|Apartment|Suite|Unit|Ste|Flat|#)\.? ?\w{1,6})?"
    r"(?:, [A-Z][\w .'-]{1,30},? [A-Z]{2} \d{5}(?:-\d{4})?)?"
)
_STREET = re.compile(
    rf"(?<![\w.,-])(\d{{1,5}}[A-Za-z]?),? (?:[NSEW]\.? )?(?:[A-Z0-9][\w'’-]{{0,20}}\.? ){{1,4}}"
    rf"{_STREETS}\b\.?{_TAIL}"
)
_STRASSE = re.compile(
    r"\b[A-ZÄÖÜ][\wäöüß-]{1,30}(?:straße|strasse|str\.|weg|gasse|platz|allee|damm|ufer)"
    r" \d{1,4} ?[a-z]?\b(?:, \d{5} [A-ZÄÖÜ][\wäöüß-]{1,30})?"
)
_RUE = re.compile(
    r"(?<![\w.,-])\d{1,4}(?: ?(?:bis|ter))?,? (?:rue|avenue|boulevard|place|chemin|impasse|quai"
    r"|allée)(?: (?:de la|de l['’]|du|des|de|d['’]|la|le))? ?[A-ZÀ-Ý][\w'’-]{1,30}"
    r"(?: [A-ZÀ-Ý][\w'’-]{1,30}){0,3}"
)
_BOX = re.compile(r"\bP\.? ?O\.? ?Box \d{1,6}\b", re.I)
_LIVES = re.compile(
    r"\b((?:my (?:home |postal |street )?address is|i live at|ships? (?:it |them )?to"
    r"|deliver (?:it |them )?to):? )([^\n.;?!<>]{5,80})",
    re.I,
)
_YEAR_BEFORE = re.compile(r"(?:in|since|by|until|from|of|during|before|after) $", re.I)


def _name(match: re.Match[str]) -> str:
    first = match[2].split(" ", 1)[0].casefold()
    return match[0] if first in _NO_NAME or first in _NOBODY_DEAR else f"{match[1]}<NAME>"


def _self(match: re.Match[str]) -> str:
    """`I am Jane Doe`: no acronym, no nationality, no start of an ordinary sentence."""
    first = match[2].split(" ", 1)[0]
    if not first[1:2].islower() or first.casefold() in _NO_NAME:
        return match[0]
    # "This is Paris" may be about anything; with a surname or at the sentence's end it is somebody.
    if match[1].casefold().startswith("this") and " " not in match[2]:
        behind = match.string[match.end() : match.end() + 10]
        if not behind.startswith((" speaking", " here", " from")):
            return match[0]
    return f"{match[1]}<NAME>"


def _street(match: re.Match[str]) -> str:
    """A house, not a year: "in 1987 Wall Street" is history."""
    number = match[1]
    if len(number) == 4 and number.isdigit() and "1700" <= number <= "2099":
        if _YEAR_BEFORE.search(match.string, max(0, match.start() - 8), match.start()):
            return match[0]
    return "<ADDRESS>"


def _lives(match: re.Match[str]) -> str:
    return f"{match[1]}<ADDRESS>" if any(map(str.isdigit, match[2])) else match[0]


_NAMING = (
    "name", "call me", "ich heisse", "m'appelle", "m’appelle", "me llamo", "mi chiamo",
    "signed",
)  # fmt: skip
_BEING = ("i am ", "i'm ", "i’m ", "this is ", "ich bin ", "je suis ", "soy ")
_TITLES = ("mr", "ms", "mx", "miss", "dr", "prof", "herr", "frau", "señor", "monsieur", "madame")
PEOPLE = (
    Rule(("birth", "dob", "d.o.b", "born", "gebor", "geburt", "né", "nacimiento"), _BORN,
         r"\1<BIRTH_DATE>"),
    Rule(("address is", "i live at", "ship", "deliver"), _LIVES, _lives),
    Rule(DIGITS, _STREET, _street),
    Rule(("strasse", "str.", "weg", "gasse", "platz", "allee", "damm", "ufer"), _STRASSE,
         "<ADDRESS>"),
    Rule((" rue", " avenue", " boulevard", " place", " chemin", " impasse", " quai", " allée"),
         _RUE, "<ADDRESS>"),
    Rule((" box ",), _BOX, "<ADDRESS>"),
    Rule(_NAMING, _INTRODUCED, _name),
    Rule(("my ",), _LOWER, _name),
    Rule(_BEING, _I_AM, _self),
    Rule(_TITLES, _TITLED, _name),
    Rule(("\n",), _SIGNED, _name),
    Rule(("dear ", "liebe", "cher ", "chère ", "querid"), _DEAR, _name),
    Rule((":",), _LISTED, _name),
)  # fmt: skip
