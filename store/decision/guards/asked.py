"""What kind of answer is wanted: a person, a time, a place, a number, a reason, a way."""

from __future__ import annotations

import re

ASKING = {
    "who": "who", "whom": "who", "whose": "who", "when": "when", "where": "where", "why": "why",
    "how": "how", "what": "what", "which": "what", "wer": "who", "wann": "when", "wo": "where",
    "warum": "why", "wieso": "why", "wie": "how", "qui": "who", "quand": "when", "où": "where",
    "pourquoi": "why", "quién": "who", "cuándo": "when", "dónde": "where",
    "chi": "who", "dove": "where", "perché": "why",
}  # fmt: skip
_HOW = {
    "many": "amount", "much": "amount", "long": "long", "often": "often", "far": "far",
    "old": "old", "tall": "tall", "high": "tall", "big": "big", "large": "big", "late": "late",
    "fast": "fast", "deep": "deep", "heavy": "heavy", "wide": "wide", "soon": "when",
}  # fmt: skip
# "What city" is "where", "the number of" is "how many".
_KINDS = {
    "when": "year date day month time century decade period season",
    "where": "city country place location state town continent region address venue spot"
    " street county province position",
    "who": "person actor actress singer author writer team artist band director president king"
    " queen man woman player people someone name",
    "why": "reason reasons cause causes caused makes purpose",
    "amount": "number amount total count quantity price cost sum percentage percent rate"
    " earnings fee size population value money profit difference score balance average mean",
    "long": "length duration", "far": "distance", "old": "age", "tall": "height",
    "often": "frequency", "fast": "speed", "deep": "depth", "heavy": "weight", "wide": "width",
    "big": "size area",
    "how": "way method steps process procedure",
}  # fmt: skip
_BY_NOUN: dict[str, tuple[str, ...]] = {}
for _kind, _nouns in _KINDS.items():
    for _noun in _nouns.split():
        _BY_NOUN[_noun] = (*_BY_NOUN.get(_noun, ()), _kind)
_WHETHER = frozenset("is are was were do does did has have had am".split())
_ADDRESSED = (("you",), ("we",), ("anyone",), ("anybody",), ("someone",))
_YES_OR_NO = frozenset({"whether"})
_REACH = 7  # words behind "what" in which its kind is named
_TOKEN = re.compile(r"[^\W\d_]+")
_LONG = 30  # words; of a longer text only the sentence that asks is read


def asked_of(folded: str, tokens: tuple[str, ...], words: frozenset[str]) -> frozenset[str]:
    """Return the kinds of answer that a text in lower case asks for; empty if nothing says so.

    `words` are its tokens without repetition.
    """
    if words.isdisjoint(ASKING):
        whether = bool(tokens) and tokens[0] in _WHETHER and tokens[1:2] not in _ADDRESSED
        return _YES_OR_NO if whether else frozenset()
    if len(tokens) > _LONG:
        tokens = tuple(_TOKEN.findall(_question(folded)))
    kinds: set[str] = set()
    for at, token in enumerate(tokens):
        kind = ASKING.get(token)
        if kind is None:
            continue
        if kind == "how" and at + 1 < len(tokens):
            kinds.add(_HOW.get(tokens[at + 1], "how"))
        else:
            kinds.add(kind)
        if kind == "what":
            nouns = (noun for noun in tokens[at + 1 : at + 1 + _REACH] if noun in _BY_NOUN)
            kinds.update(_BY_NOUN.get(next(nouns, ""), ()))
    return frozenset(kinds)


def _question(folded: str) -> str:
    """Return the last sentence that asks; of a text without a question mark, the last."""
    end = folded.rfind("?")
    if end < 0:
        folded = folded.rstrip(" .!\n")
        end = len(folded)
    return folded[max(folded.rfind(mark, 0, end) for mark in ".!?\n;") + 1 : end]


def conflicting(a: frozenset[str], b: frozenset[str], close: bool) -> bool:
    """Whether two texts ask for different kinds of answer; `close`: they say much the same else.

    "What" may ask for anything, so it contradicts only where the rest agrees.
    """
    if not (a and b) or a == b:
        return False
    if "whether" in a | b:
        return close and not {"what", "how"} & (a | b)
    ours, theirs = a - {"what"}, b - {"what"}
    if ours & theirs:
        return False
    if ours and theirs:
        return close or ("what" not in a and "what" not in b and "how" not in ours | theirs)
    if "what" in a & b or ours | theirs == {"how"}:
        return False
    return close
