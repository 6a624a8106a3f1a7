"""Names and quotations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from store.decision.guards.dates import WORDS as DATES
from store.decision.guards.measures import ORDINALS
from store.decision.guards.words import Words, stem

_CAPITALISED = re.compile(r"(?<![^\W_])[^\W\d_a-z][^\W_]*")
_SPACE = ' \t\r\n"“«(*_-'
_ENDS = ".!?:;…"
_TITLES = frozenset("mr mrs ms dr prof professor st miss sir".split())
_NEVER = frozenset("i i'm i've i'd i'll a ok".split())
# What a request begins with is capitalised for that reason alone.
_OPENING = frozenset(
    "list convert translate write summarize summarise explain describe find show give tell"
    " compare calculate determine sort name define make create generate fix is are was were do"
    " does did can could would will should may must has have had what who when where why how"
    " which whose if in on at for to from with the a an and or but please let help suggest"
    " recommend provide identify discuss classify rewrite extract compute estimate evaluate"
    " using given there this that these those my your his her its our their it he she we they"
    " you after before during as by of not no each every all some any one two three how's what's"
    " who's where's".split()
)
_TITLE_CASE = 0.6  # of the longer words are capitalised: then capitals tell nothing
_LONG = 30  # words; of a longer text, what a sentence begins with says nothing
_QUOTED = re.compile(
    r"\"([^\"\n]{1,200})\"|“([^“”]{1,200})”|«([^«»]{1,200})»|`([^`\n]{1,200})`"
    r"|(?<![\w'])'([^'\s][^'\n]{0,198}[^'\s]|[^'\s])'(?!\w)"
)
_MARKS_OF_QUOTES = re.compile(r"[\"“«`']")


class Names(NamedTuple):
    """Stems of words of a text that name something."""

    firm: frozenset[str]  # capitalised inside a sentence
    loose: frozenset[str]  # capitalised where everything is, or where a sentence begins

    def loosely(self) -> Names:
        """Return the same names without trust in their capitals."""
        return Names(frozenset(), self.firm | self.loose)


def names_of(text: str, words: Words, known: Iterable[str] = ()) -> Names:
    """Read the names of a text: single words, since a surname may stand for the whole.

    `words`: the text's own; `known`: those of them that are names however they are written.
    """
    inside = set(known)
    opening: set[str] = set()
    capitals = 0
    for match in _CAPITALISED.finditer(text):
        word = match.group()
        if not word[0].isupper():
            continue
        capitals += len(word) > 3
        folded = word.casefold()
        if folded in _NEVER or folded in DATES or folded in ORDINALS:
            continue
        (opening if _begins(text, match.start()) else inside).add(folded)
    if not inside and not opening:
        return _NONE
    opening -= _OPENING | inside
    if len(words.tokens) > _LONG:
        opening.clear()
    if capitals > 2 and capitals > _TITLE_CASE * sum(len(token) > 3 for token in words.tokens):
        return Names(frozenset(), frozenset(map(stem, inside | opening)))
    return Names(frozenset(map(stem, inside)), frozenset(map(stem, opening)))


_NONE = Names(frozenset(), frozenset())


def _begins(text: str, start: int) -> bool:
    """Whether a sentence begins at `start`."""
    at = start - 1
    while at >= 0 and text[at] in _SPACE:
        if text[at] == "\n":
            return True
        at -= 1
    if at < 0:
        return True
    if text[at] not in _ENDS:
        return False
    end = at
    while at > 0 and text[at - 1].isalpha() and end - at < 10:
        at -= 1
    return text[at:end].casefold() not in _TITLES


def quotes_of(text: str) -> frozenset[str]:
    """Return what a text quotes, as written."""
    if _MARKS_OF_QUOTES.search(text) is None:
        return frozenset()
    found = (next(filter(None, match.groups())) for match in _QUOTED.finditer(text))
    return frozenset(quote.strip() for quote in found)
