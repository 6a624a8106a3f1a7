"""Personal data and secrets out of a text, before it may be shown beside another's question.

An example can be recited, so what names or opens something leaves the text first. These are rules,
not a recogniser: presidio needs a spaCy model, which comes from no package index, and some 400 MB;
what it adds is names without any context, which no rule finds. A name that nothing introduces
stays, so texts that cross users stay within one tenant as well.

Numbers are checked where a checksum exists (cards by Luhn, IBANs by mod 97). Every expression is
bounded: the time grows with the length of the text. What has been replaced stays as it is when the
text is scrubbed again.
"""

from __future__ import annotations

import re
import unicodedata

from icl.scrub_people import PEOPLE
from icl.scrub_rule import DIGITS, Rule
from icl.scrub_secrets import SECRETS

_PASSES = 8  # what is replaced may leave something to its left that now matches

_EMAIL = re.compile(
    r"(?<![\w.%+'-])(?!git@)[\w.%+'-]{1,200}(?:@|%40| ?[\[(]at[\])] ?)"
    r"(?:[^\W_](?:[\w-]{0,62})(?:\.| ?[\[(]dot[\])] ?)){1,6}[^\W\d_]{2,24}"
)
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", re.I
)
_CARD = re.compile(
    r"(?<![\w.-])(?:[2-6]\d{3}([ .-]?)\d{4}\1\d{4}\1\d{1,7}|3\d{3}([ .-]?)\d{6}\2\d{4,5})(?![\w-])"
)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_SAID_SSN = re.compile(
    r"\b((?:ssn|social security(?: number| no\.?)?)[^\d<\n]{0,12})\d{3}[ -]?\d{2}[ -]?\d{4}(?!\d)",
    re.I,
)
_ID = re.compile(
    r"\b((?:passport|driver['’]?s? licen[cs]e|licen[cs]e plate|national id|identity card|account"
    r"|membership|member|customer|patient|insurance|policy|tax|vat|routing|medical record)"
    r" ?(?:number|no\.?|nr\.?|id|#)? ?(?:is|:|=|#)? ?)"
    r"((?=[A-Z0-9./-]{0,14}\d{4})[A-Z0-9./-]{5,20})\b",
    re.I,
)
_ABROAD = re.compile(
    r"(?<![\w+.])(?:\+|00)[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ ./-]?\d){6,12}(?!\d)"
)
_NANP = re.compile(
    r"(?<![\w.+-])(?:1[ .-])?(?:\(\d{3}\) ?\d{3}|[2-9]\d{2}[ .-][2-9]\d{2})[ .-]\d{4}(?![\w-]|\.\d)"
)
_NATIONAL = re.compile(
    r"(?<![\w.,+/-])\(?0\d{1,4}\)?[ /-]\d{3,8}(?:[ -]\d{2,5}){0,4}(?![\w-]|\.\d)"
)
_SAID_PHONE = re.compile(
    r"\b((?:phone|telephone|tel|mobile|cell|fax|whatsapp|handy|call me|text me|reach me|ring me)"
    r"[^\d\n<(+]{0,20})([+(]?\d[\d ()./-]{5,20}\d)",
    re.I,
)


def _luhn(match: re.Match[str]) -> str:
    digits = [int(c) for c in match[0] if c.isdigit()]
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    fine = 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
    return "<CARD>" if fine else match[0]


def _iban(match: re.Match[str]) -> str:
    """The longest beginning whose checksum holds: capitals behind it may look like more of it."""
    groups = match[0].split(" ")
    for end in range(len(groups), 0, -1):
        number = "".join(groups[:end])
        if len(number) >= 15 and _mod97(number):
            return " ".join(["<IBAN>", *groups[end:]])
    return match[0]


def _mod97(iban: str) -> bool:
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def _national(match: re.Match[str]) -> str:
    return "<PHONE>" if 9 <= sum(map(str.isdigit, match[0])) <= 12 else match[0]


def _said_phone(match: re.Match[str]) -> str:
    enough = 7 <= sum(map(str.isdigit, match[2])) <= 15
    return f"{match[1]}<PHONE>" if enough else match[0]


_PHONES = ("phone", "tel", "mobile", "cell", "fax", "whatsapp", "handy", "call", "me ")
_HOLDERS = (
    "passport", "licen", "national id", "card", "account", "member", "customer", "patient",
    "insurance", "policy", "tax", "vat", "routing", "medical",
)  # fmt: skip
_PLACEHOLDER = re.compile(
    "<(?:ADDRESS|BIRTH_DATE|CARD|EMAIL|IBAN|ID|IP|MAC|NAME|PHONE|SECRET|SSN)>"
)
_RULES = (
    *SECRETS,
    Rule(("@", "%40", "at)", "at]"), _EMAIL, "<EMAIL>"),
    Rule(DIGITS, _IBAN, _iban),
    Rule(DIGITS, _CARD, _luhn),
    Rule(("-",), _SSN, "<SSN>"),
    Rule(("ssn", "social security"), _SAID_SSN, r"\1<SSN>"),
    *PEOPLE,
    Rule(("+", "00"), _ABROAD, "<PHONE>"),
    Rule(DIGITS, _NANP, "<PHONE>"),
    Rule(("0",), _NATIONAL, _national),
    Rule(_PHONES, _SAID_PHONE, _said_phone),
    Rule(_HOLDERS, _ID, r"\1<ID>"),
)


# What looks like a sign that the rules look for, or like nothing. Models write their numbers with
# blanks and hyphens at which no line breaks.
_LOOKALIKES = {
    **dict.fromkeys((0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), " "),
    **dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63), "-"),
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys((0xAD, *range(0x200B, 0x2010), *range(0x2060, 0x2065), 0xFEFF)),
    **{
        code: str(unicodedata.digit(chr(code)))
        for code in range(0x80, 0x20000)
        if unicodedata.category(chr(code)) == "Nd"
    },
}


def scrub(text: str) -> str:
    """Return the text with personal data replaced by typed placeholders such as <EMAIL>.

    Where there is some, blanks, hyphens, digits and the like become those of ASCII as well.
    """
    plain = text if text.isascii() else text.translate(_LOOKALIKES)
    scrubbed = _scrubbed(plain)
    return text if scrubbed == plain else scrubbed


def _scrubbed(text: str) -> str:
    for _ in range(_PASSES):
        before, folded = text, text.casefold()
        for rule in _RULES:
            text = rule.apply(text, folded)
        if text == before:
            break
    return text


def placeholders(text: str) -> frozenset[str]:
    """Return what in a text looks as if `scrub` had put it there."""
    return frozenset(_PLACEHOLDER.findall(text))
