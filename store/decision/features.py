"""What the calibrated score sees of a query and a stored one: numbers, in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from store.decision.guards import SIGNAL_NAMES, marks_of, signals

NEIGHBORS = 8  # nearest entries that a neighbourhood is read from
_GRAM = 4  # characters
_MOST_LEFT = 12  # words without a counterpart that are compared letter by letter
_MOST_WORDS = 64.0


class Neighborhood(NamedTuple):
    """Where one candidate stands among the nearest entries of its partition.

    Where fewer than NEIGHBORS were found the others say nothing, and all but the similarity is 0.
    """

    similarity: float  # cosine to the query
    margin: float = 0.0  # how much nearer than the nearest other one; negative unless it is first
    density: float = 0.0  # mean cosine of the NEIGHBORS nearest
    rank: int = 0  # 0 for the nearest


LEXICAL_NAMES = (
    "words_shared",  # share of all different words that both have
    "content_shared",  # the same of words that carry something
    "query_covered",  # share of the query's words of content that the stored one has
    "stored_covered",
    "pairs_shared",  # share of all different pairs of neighbouring words
    "grams_shared",  # share of all different runs of four characters
    "left_query",  # how much the query's words of content differ from all of the stored one's
    "left_stored",
    "left_least",  # the smaller of both
    "left_most",
    "words_query",  # count
    "words_stored",
    "length_ratio",  # shorter over longer
    "same_first",  # first word
    "same_last",  # last word
    "shared_count",  # words of content
)
FEATURE_NAMES = (*Neighborhood._fields, *LEXICAL_NAMES, *SIGNAL_NAMES)


def neighborhoods(similarities: Sequence[float]) -> list[Neighborhood]:
    """Return each candidate's neighbourhood; `similarities` are the nearest's, nearest first."""
    near = [float(each) for each in similarities[:NEIGHBORS]]
    if len(near) < NEIGHBORS:
        return [Neighborhood(similarity) for similarity in near]
    density = sum(near) / NEIGHBORS
    return [
        Neighborhood(similarity, similarity - near[0 if rank else 1], density, rank)
        for rank, similarity in enumerate(near)
    ]


def features(query: str, stored: str, place: Neighborhood) -> tuple[float, ...]:
    """Return one number for each of FEATURE_NAMES."""
    return (*place, *_lexical(query, stored), *signals(query, stored))


def apart(seen: tuple[float, ...]) -> tuple[float, ...]:
    """Return features as they would be if too few neighbours had been found to say anything."""
    return (*Neighborhood(seen[0]), *seen[len(Neighborhood._fields) :])


def read_ahead(text: str) -> None:
    """Read what guards and features will ask of a text, and remember it for them."""
    marks_of(text)
    _shape_of(text)


class _Shape(NamedTuple):
    """What of one text the lexical features need; remembered, as stored queries come up again."""

    stems: tuple[str, ...]
    words: frozenset[str]
    content: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    grams: frozenset[str]


@lru_cache(maxsize=4096)
def _shape_of(text: str) -> _Shape:
    words = marks_of(text).words
    folded = text.casefold()
    return _Shape(
        stems=words.stems,
        words=frozenset(words.stems),
        content=words.content,
        pairs=frozenset(zip(words.stems, words.stems[1:], strict=False)),
        grams=frozenset(folded[i : i + _GRAM] for i in range(max(1, len(folded) - _GRAM + 1))),
    )


def _lexical(query: str, stored: str) -> tuple[float, ...]:
    a, b = _shape_of(query), _shape_of(stored)
    both = len(a.content & b.content)
    left_query, left_stored = _left(a.content - b.content, b.content - a.content)
    long, short = max(len(a.stems), len(b.stems)), min(len(a.stems), len(b.stems))
    return (
        _jaccard(a.words, b.words),
        _jaccard(a.content, b.content),
        both / max(1, len(a.content)),
        both / max(1, len(b.content)),
        _jaccard(a.pairs, b.pairs),
        _jaccard(a.grams, b.grams),
        left_query,
        left_stored,
        min(left_query, left_stored),
        max(left_query, left_stored),
        min(float(len(a.stems)), _MOST_WORDS),
        min(float(len(b.stems)), _MOST_WORDS),
        short / max(1, long),
        float(a.stems[:1] == b.stems[:1]),
        float(a.stems[-1:] == b.stems[-1:]),
        min(float(both), _MOST_WORDS),
    )


def _jaccard(a: frozenset[object], b: frozenset[object]) -> float:
    either = len(a | b)
    return len(a & b) / either if either else 1.0


def _left(ours: frozenset[str], theirs: frozenset[str]) -> tuple[float, float]:
    """Return how much of either side's own words has nothing like it on the other.

    A misspelt or inflected word shares most of its letters with its counterpart, another word
    few. Beyond _MOST_LEFT words a side each counts whole.
    """
    if max(len(ours), len(theirs)) > _MOST_LEFT:
        return float(len(ours)), float(len(theirs))
    like = dict.fromkeys((*ours, *theirs), 0.0)
    for mine in ours:
        for other in theirs:
            alike = _alike(mine, other)
            like[mine] = max(like[mine], alike)
            like[other] = max(like[other], alike)
    return sum(1.0 - like[word] for word in ours), sum(1.0 - like[word] for word in theirs)


@lru_cache(maxsize=16_384)
def _trigrams(word: str) -> frozenset[str]:
    padded = f"<{word}>"
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))


def _alike(a: str, b: str) -> float:
    """Return Dice's coefficient of two words' runs of three letters."""
    ours, theirs = _trigrams(a), _trigrams(b)
    return 2 * len(ours & theirs) / (len(ours) + len(theirs))
