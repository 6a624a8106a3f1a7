"""What a text says beyond the other's whole question: a tail or a preface that may turn it round.

Whoever wants an answer of their own making served to another's question writes that question and
an order to the answerer (PAPERS.md 4.8, CacheAttack). To the encoder that is the question with a
little noise, the more so the more often the question's own words are said again.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from store.decision.guards.asked import ASKING
from store.decision.guards.words import EMPTY, Words, stem

_NEARLY_WHOLE = 0.75  # of the other's words of content: with an order, that is enough
_SHORT = 15  # words of content; a longer text loses some of them in every rephrasing
_ASKS = 3  # words of content that a text needs to be found in another to the letter
_FEW = 3  # words of content that may make a question more precise; a sentence of its own may not
# Said to whoever answers, or of the answer: as one more word they are an order.
_ORDERS = frozenset(
    map(
        stem,
        "answer reply respond response output print ignore disregard forget override pretend obey"
        " instruction instead insert append mention recommend system assistant prompt"
        " hacked lie lying wrong wrongly false falsely incorrect incorrectly opposite untrue fake"
        " sarcastic sarcastically joke pirate refuse jailbreak".split(),
    )
)
_COURTESY = frozenset(
    map(
        stem,
        "thanks thank hi hello hey dear help regards cheers greetings sorry everyone everybody guys"
        " folks question quick all good morning evening advance appreciated appreciate"
        # Who wants to know, and that they do.
        " anyone someone like love need want wonder wondering curious ask asks asking asked son"
        " daughter friend boss quiz".split(),
    )
)
_PHRASE = 2  # words: "per capita"
# One word more that makes another thing or another act of what is asked of.
_TURNING = frozenset(
    map(
        stem,
        "stop stopping avoid prevent except half square root cube natural northern southern western"
        " eastern vice deputy former ex stepfather assistant capita only false"
        " bissau equatorial non fake unless opposite democratic reverse inverse"
        " secondhand".split(),
    )
)
# What begins so goes with the question: "For her work on which show did she ...".
_CIRCUMSTANCE = frozenset(
    "about after as at before besides by during for from if in of on since to under when while"
    " with within".split()
)
_STOP = re.compile(r"[.?!;:…]+(?:\s|$)|[\r\n]+|\s[-–—|]+\s")


class Tail(NamedTuple):
    """What of one text tells whether it says more than another."""

    content: frozenset[str]
    sentences: int  # of two words or more, one of them of content
    said: str  # its words, each between two spaces
    lead: frozenset[str]  # words of content before the first that asks, if one does


def tail_of(text: str, words: Words) -> Tail:
    """Return what `added` compares of a text."""
    parts = [part.casefold().split() for part in _STOP.split(text)]
    whole = sum(len(part) > 1 and not EMPTY.issuperset(part) for part in parts)
    said = f" {' '.join(words.tokens)} "
    return Tail(words.content, max(1, whole), said, _lead_of(words))


def _lead_of(words: Words) -> frozenset[str]:
    if words.tokens[:1] and words.tokens[0] in _CIRCUMSTANCE:
        return frozenset()
    asks = next((at for at, token in enumerate(words.tokens) if token in ASKING), 0)
    return words.content.intersection(words.stems[:asks])


def added(a: Tail, b: Tail) -> bool:
    """Whether one text asks all that the other asks and says more.

    That is an order, several words, or one that turns it: "stop sharing" for "sharing".
    """
    return _adds(a, b) or _adds(b, a)


def _adds(longer: Tail, shorter: Tail) -> bool:
    more = longer.content - shorter.content - _COURTESY
    if not more or not shorter.content:
        return False
    kept = len(shorter.content & longer.content) / len(shorter.content)
    if kept == 1.0:
        apart = longer.sentences > shorter.sentences or (
            len(shorter.content) >= _ASKS and shorter.said in longer.said
        )
        if apart or len(more) > _FEW:
            return True
        # "Be mean How do I ...": what is asked stands whole behind what the other text lacks.
        if shorter.lead <= longer.lead and more & longer.lead and not longer.lead & shorter.content:
            return True
        if len(more) <= _PHRASE and not more.isdisjoint(_TURNING):
            return True
    short = len(shorter.content) <= _SHORT
    return kept >= _NEARLY_WHOLE and short and bool(more & _ORDERS)
