"""A text as words: folded, stemmed, its empty words apart; and how close two texts are in them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_WORD = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)*")
_CLITIC = re.compile(r"['’](?:s|re|ll|ve|d|m)$")

# Words that carry no role: their place in a sentence changes with every rephrasing.
EMPTY = frozenset(
    "a an the of in to on at by for from with as is are was were be been am do does did can could"
    " will would shall should may might must has have had i you he she it we they me him her us"
    " them my your his its our their this that these those what which who whom whose when where"
    " why how please tell explain describe show give say there here so just also and or but if"
    " then than about into any some one way s t m re ll ve d get got being done doing having"
    " know whats wheres hows whos".split()
)
# What stands between a word and the place it holds: "to the old town" is "to town".
_SKIPPED = frozenset("a an the s my your his her its our their this that these those".split())
# What a request begins with: "how to", "what is the best way to". It says "to" once more.
_OPENING = frozenset(
    "how do does did can could would should shall may might i you we one someone anyone it is"
    " what the a an to of for me us there please tell show explain help let know want wanted need"
    " like wonder wondering hi hello hey best good better easy easiest simplest quickest proper"
    " correct way ways possible able any go about".split()
)
_CLOSING = frozenset("please thanks thank you".split())


class Words(NamedTuple):
    """The words of one text, in lower case."""

    tokens: tuple[str, ...]  # as written, possessives and short auxiliaries cut off
    stems: tuple[str, ...]  # one a token
    content: frozenset[str]  # stems that carry something
    core: tuple[str, ...]  # stems in order, without articles and without how it is introduced
    bag: tuple[str, ...]  # the core in order of the alphabet


_WHOLE = frozenset({"https", "news"})  # whose ending makes another word


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Return a word without the endings that rephrasing changes; crude, and the same on both sides.

    >>> stem("cities"), stem("stopped"), stem("uses"), stem("using")
    ('city', 'stop', 'us', 'us')
    """
    if len(word) < 4 or word in _WHOLE or not word.isascii():
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("ing") and len(word) > 5:
        word = _undoubled(word[:-3])
    elif word.endswith("ed") and len(word) > 4:
        word = _undoubled(word[:-2])
    elif word.endswith("es") and len(word) > 4:
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def _undoubled(word: str) -> str:
    twice = len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz"
    return word[:-1] if twice else word


def words_of(folded: str) -> Words:
    """Read the words of a text in lower case."""
    tokens = tuple(_WORD.findall(folded))
    if "'" in folded or "’" in folded:
        tokens = tuple(
            _CLITIC.sub("", token) if "'" in token or "’" in token else token for token in tokens
        )
    stems = tuple(map(stem, tokens))
    content = frozenset(s for t, s in zip(tokens, stems, strict=True) if t not in EMPTY)
    core = _core(tokens, stems)
    return Words(tokens, stems, content, core, tuple(sorted(core)))


def _core(tokens: tuple[str, ...], stems: tuple[str, ...]) -> tuple[str, ...]:
    first, end = 0, len(tokens)
    while first < end and tokens[first] in _OPENING:
        first += 1
    while first < end and tokens[end - 1] in _CLOSING:
        end -= 1
    core = tuple(stem for stem in stems[first:end] if stem not in _SKIPPED)
    if "from" in core and "to" in core:  # "from Rome to Milan" is "Rome to Milan"
        core = tuple(stem for stem in core if stem != "from")
    return core


def overlap(a: Words, b: Words) -> float:
    """Return the share of the longer text's words of content that both have, 0 to 1."""
    longer = max(len(a.content), len(b.content))
    return len(a.content & b.content) / longer if longer else 1.0


Places = dict[str, str]


def _kept(stems: tuple[str, ...]) -> list[str]:
    return [word for word in stems if word not in _SKIPPED]


def _places(stems: tuple[str, ...], certain: bool) -> Places:
    """Return which word stands behind which one or two; places that come up twice are left out."""
    places: Places = {}
    before, last = "", "^"
    for word in _kept(stems):
        for place in (f"{before} {last}",) if certain else (last, f"{before} {last}"):
            places[place] = word if places.get(place, word) == word else ""
        before, last = last, word
    return places


def _frames(stems: tuple[str, ...]) -> Places:
    """Return which word stands between which two; frames that come up twice are left out."""
    kept = _kept(stems)
    frames: Places = {}
    for before, word, behind in zip(["^", *kept], kept, [*kept[1:], "$"], strict=False):
        frame = f"{before} {behind}"
        frames[frame] = word if frames.get(frame, word) == word else ""
    return frames


def substitutions(a: Words, b: Words, *, certain: bool = False) -> frozenset[tuple[str, str]]:
    """Return (a's stem, b's stem) for places that both texts have and fill differently.

    A place is the word before or the two before, or only the latter if it has to be `certain`, so
    that no alignment has to be searched for.
    """
    return _differing(_places(a.stems, certain), _places(b.stems, certain))


def moved(a: Words, b: Words) -> frozenset[tuple[str, str]]:
    """Return the same for what two texts ask, however that is introduced."""
    return _differing(_places(a.core, False), _places(b.core, False))


def framed(a: Words, b: Words) -> frozenset[tuple[str, str]]:
    """Return (a's stem, b's stem) for words between the same two neighbours."""
    return _differing(_frames(a.stems), _frames(b.stems))


def _differing(ours: Places, theirs: Places) -> frozenset[tuple[str, str]]:
    return frozenset(
        (word, theirs[place])
        for place, word in ours.items()
        if word and theirs.get(place) and theirs[place] != word
    )
