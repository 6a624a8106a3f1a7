"""What the utility model knows about one candidate, as numbers in [-1, 1]. Pure."""

from __future__ import annotations

import math

from icl.answer_form import Form, near
from icl.example import Example
from icl.shown import Asked

NAMES = (
    "bias", "similarity", "question length", "answer length", "length ratio", "shared words",
    "same beginning", "answer form", "quality of helped answers", "offered", "own quality", "age",
    "redundancy",
)  # fmt: skip
SIZE = len(NAMES)
REDUNDANCY = NAMES.index("redundancy")
_BEGINNING = 4  # words
_LONG = math.log1p(20_000)  # characters
_OFTEN = math.log1p(1_000)
_OLD = math.log1p(30 * 24 * 3600)  # seconds

Features = tuple[float, ...]


def features_of(request: Asked, example: Example, common: Form | None) -> Features:
    """Return the features of one candidate before any other is chosen (redundancy 0).

    `common` is the form of most candidates' answers.
    """
    record, asked = example.record, example.shown.asked
    shorter = min(asked.length, request.length)
    longer = max(asked.length, request.length, 1)
    begins = 0
    for ours, theirs in zip(request.words[:_BEGINNING], asked.words, strict=False):
        if ours != theirs:
            break
        begins += 1
    own = 0.5 if record.own_quality is None else record.own_quality
    return (
        1.0,
        max(-1.0, min(1.0, example.similarity)),
        _scaled(asked.length, _LONG),
        _scaled(len(example.answer), _LONG),
        shorter / longer,
        jaccard(request.said, asked.said),
        begins / _BEGINNING,
        1.0 if common is not None and near(common, example.shown.form) else 0.0,
        2.0 * max(0.0, min(1.0, record.quality)) - 1.0,
        _scaled(record.offered, _OFTEN),
        2.0 * max(0.0, min(1.0, own)) - 1.0,
        _scaled(example.age, _OLD),
        0.0,
    )


def with_redundancy(features: Features, redundancy: float) -> Features:
    """Return the features with how much of the example the chosen ones already say, [0, 1]."""
    return (*features[:REDUNDANCY], redundancy, *features[REDUNDANCY + 1 :])


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the share of the words of both that both have; 1 for two empty texts."""
    both = len(a & b)
    either = len(a) + len(b) - both
    return both / either if either else 1.0


def _scaled(value: float, largest: float) -> float:
    return min(1.0, math.log1p(max(0.0, value)) / largest)
