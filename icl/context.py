"""What the router knows of a request, as a short row of numbers within about [-1, 1]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from hashlib import shake_256
from math import isfinite, log1p

import numpy as np
import numpy.typing as npt

PROJECTIONS = 8
SIZE = PROJECTIONS + 10
BIAS = SIZE - 1  # place of the constant 1
AGREEMENT = SIZE - 2  # place of how far the examples' answers agree
TOP_SIMILARITY = PROJECTIONS  # place of the largest similarity
_SEED = b"nearhit context 1"  # another seed is another context: what was learnt would be misread
_SPREAD = 0.5  # of a projection, whose standard deviation is then 0.5 for vectors of any direction
_MANY = 5.0  # examples
_LONG = log1p(4000.0)  # characters that make a length 1


def build(
    vector: npt.NDArray[np.float32] | None,
    similarities: Sequence[float],
    utilities: Sequence[float],
    question_characters: int,
    answer_characters: int,
    answers: Sequence[str],
) -> tuple[float, ...]:
    """Return the context of a request: SIZE numbers, the last of them 1.

    `vector` is the question's unit vector of any dimension, None if there is none. `similarities`
    are those of the candidates and `utilities` those of the examples selected, in any order.
    `answer_characters` is the mean length of the candidates' answers, 0 without any. `answers` are
    those of the examples selected. Numbers that are not finite count as 0.
    """
    near = sorted(similarities, reverse=True)
    top = near[0] if near else 0.0
    evidence = [
        top,
        sum(near) / len(near) if near else 0.0,
        top - near[1] if len(near) > 1 else top,
        len(utilities) / _MANY,
        sum(utilities) / len(utilities) if utilities else 0.0,
        max(utilities, default=0.0),
        log1p(max(0, question_characters)) / _LONG,
        log1p(max(0, answer_characters)) / _LONG,
        _agreement(answers),
        1.0,
    ]
    return tuple(_bounded(value) for value in (*_projected(vector), *evidence))


def _projected(vector: npt.NDArray[np.float32] | None) -> list[float]:
    if vector is None or vector.size == 0:
        return [0.0] * PROJECTIONS
    projected: list[float] = (_signs(vector.size) @ vector.astype(np.float64).ravel()).tolist()
    return projected


def _agreement(answers: Sequence[str]) -> float:
    """Return the share of the most frequent answer, 0 where fewer than two could agree."""
    return max(Counter(answers).values()) / len(answers) if len(answers) > 1 else 0.0


def _bounded(value: float) -> float:
    return min(max(float(value), -1.0), 1.0) if isfinite(value) else 0.0


@cache
def _signs(dimension: int) -> npt.NDArray[np.float64]:
    """Return the projection: signs from a hash, so every release and machine draws the same."""
    length = -(-PROJECTIONS * dimension // 8)
    drawn = np.unpackbits(np.frombuffer(shake_256(_SEED).digest(length), dtype=np.uint8))
    signs = drawn[: PROJECTIONS * dimension].reshape(PROJECTIONS, dimension)
    return (signs.astype(np.float64) * 2.0 - 1.0) * _SPREAD
