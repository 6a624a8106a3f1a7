"""The category whose examples are nearest to a query, by the query's own vector.

Every example lends its category a say that fades with distance: the square of the cosine. How much
of a say is solved for, so that near an example its own category scores 1 and the others 0 (kernel
ridge regression). On CLINC150 that beats the nearest example, the nearest three and the centroid:
`python -m bench.categories`, docs/LOG.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from embed.encoder import Vector, Vectors
from proxy.example_memo import load_memo, save_memo, text_digest
from store.policy import DEFAULT_CATEGORY, Mode, PolicyBook

logger = logging.getLogger(__name__)

RULE_VERSION = 1  # raised when any number below, or what is done with them, changes
RIDGE = 0.1  # keeps near copies in two categories from shouting at each other
REMOTENESS = 0.41  # see `threshold_of`
FLOOR = 0.1  # no less is asked for, what a single example gives at a cosine of 0.33

MAX_EXAMPLES = 1024  # in all: solving takes their cube (0.2 s), a query their number (30 us)
BATCH = 16  # examples encoded at once, so that the traffic's texts get their turn in between

Encode = Callable[[list[str]], Awaitable[Vectors]]
Real = TypeVar("Real", np.float32, np.float64)
Owners = npt.NDArray[np.intp]  # shape (n,): which category an example is of
Weights = npt.NDArray[np.float32]  # shape (n, categories)


class Near(NamedTuple):
    """How near a query is to a category, for people to read."""

    category: str
    score: float
    example: str  # the nearest of the category's own
    similarity: float  # cosine to that


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prototypes:
    """The examples of one policy book under one checkpoint. Make them with `build`."""

    checkpoint: str
    digest: str  # of all that `classify` depends on, and of what is forbidden
    names: tuple[str, ...]
    vectors: Vectors  # of the examples, unit rows
    weights: Weights  # what each example says for each of `names`
    threshold: float  # the score below which a query belongs to none of them
    texts: tuple[tuple[str, str], ...] = ()  # (category, example) of each of `vectors`

    def classify(self, vector: Vector) -> str:
        """Return the category of a query with this unit vector; `default` if none is near."""
        if not self.names:
            return DEFAULT_CATEGORY
        scores = self.scores(vector)
        best = int(scores.argmax())
        return self.names[best] if scores[best] >= self.threshold else DEFAULT_CATEGORY

    def nearest(self, vector: Vector) -> list[Near]:
        """Return every category with its score and its nearest example, the best score first."""
        if not self.names or not self.texts:
            return []
        scores, cosines = self.scores(vector), self.vectors @ vector
        best: dict[str, tuple[float, str]] = {}
        for (category, example), cosine in zip(self.texts, cosines.tolist(), strict=True):
            best[category] = max(best.get(category, (-1.0, "")), (cosine, example))
        rows = [
            Near(name, float(score), best[name][1], best[name][0])
            for name, score in zip(self.names, scores, strict=True)
        ]
        return sorted(rows, key=lambda row: -row.score)

    def scores(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return each category's score: near 1 at its examples, near 0 far away or elsewhere.

        `vectors` of shape (d,) give (categories,), of shape (n, d) give (n, categories).
        """
        cosines: npt.NDArray[np.float32] = vectors @ self.vectors.T
        return nearness(cosines) @ self.weights


def digest_of(book: PolicyBook, checkpoint: str) -> str:
    """Name all that the prototypes of a book depend on, and which categories they forbid.

    What was told of a question under one digest would be told of it under an equal one.
    """
    examples = [(p.name, p.examples, p.mode is Mode.OFF) for p in book.exemplified]
    said = json.dumps([RULE_VERSION, checkpoint, examples])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


async def build(
    book: PolicyBook,
    encode: Encode,
    checkpoint: str,
    memo_file: Path | None,
    *,
    first_window: Callable[[str], str | None] = lambda text: text,
) -> Prototypes:
    """Encode the examples that the memo does not know, and solve for their weights.

    `first_window` cuts an example that the encoder could not take; one of which nothing is left is
    left out. Whatever `encode` raises passes through, and the memo keeps what was encoded.
    """
    named = _within_bounds(_readable(book, first_window))
    texts = list(dict.fromkeys(text for _, examples in named for text in examples))
    known = await _encoded(texts, encode, checkpoint, memo_file)
    rows = [known[text] for _, examples in named for text in examples]
    owners = [owner for owner, (_, examples) in enumerate(named) for _ in examples]
    vectors = np.stack(rows) if rows else np.empty((0, 0), np.float32)
    names = tuple(name for name, _ in named)
    weights, threshold = await asyncio.to_thread(solve, vectors, np.array(owners, np.intp), names)
    return Prototypes(
        checkpoint=checkpoint,
        digest=digest_of(book, checkpoint),
        names=names,
        vectors=vectors,
        weights=weights,
        threshold=threshold,
        texts=tuple((name, text) for name, examples in named for text in examples),
    )


def nearness(cosines: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Return how much of a say an example has at these cosines, in their place."""
    np.maximum(cosines, 0, out=cosines)
    cosines *= cosines
    return cosines


def solve(vectors: Vectors, owners: Owners, names: Sequence[str]) -> tuple[Weights, float]:
    """Return the weights of examples of shape (n, d) for each of `names`, and the threshold."""
    rows = vectors.astype(np.float64)
    cosines: npt.NDArray[np.float64] = rows @ rows.T
    near = nearness(cosines)
    inverse = np.linalg.inv(near + RIDGE * np.eye(len(rows)))
    said = np.eye(len(names))[owners]
    weights = inverse @ said
    kinds = [kind for kind, name in enumerate(names) if name != DEFAULT_CATEGORY]
    places = [np.flatnonzero(owners == kind) for kind in kinds]
    belonging = [_belonging(near[np.ix_(own, own)]) for own in places]
    straying = [
        # What an example would score if its whole category were taken away, without solving again.
        (said[own] - np.linalg.solve(inverse[np.ix_(own, own)], weights[own]))[:, others].max(
            axis=1
        )
        for own, kind in zip(places, kinds, strict=True)
        if (others := [other for other in kinds if other != kind])
    ]
    return weights.astype(np.float32), threshold_of(belonging, straying)


def _belonging(near: npt.NDArray[np.float64]) -> float:
    """Return how near a category's other examples are to one of them, typically and together."""
    pairs = near[~np.eye(len(near), dtype=bool)]
    return float((len(near) - 1) * np.median(pairs)) if pairs.size else 0.0


def threshold_of(belonging: Sequence[float], straying: Sequence[Vectors]) -> float:
    """Return the score that the best category must reach.

    It lies between what queries score that belong and what those score whose category the book
    does not have. The first grows with the root of how densely a category's examples lie; the
    second is what examples score elsewhere without their own category. Some way below their
    geometric mean, CLINC150's out-of-scope queries are told from others as well with 10 examples a
    category as with 30, and other sets need no constant of their own.
    """
    if not straying:
        return FLOOR
    elsewhere = max(float(np.median(np.concatenate(straying))), 0.0)
    return max(FLOOR, REMOTENESS * math.sqrt(elsewhere * math.sqrt(float(np.mean(belonging)))))


def _readable(
    book: PolicyBook, first_window: Callable[[str], str | None]
) -> list[tuple[str, list[str]]]:
    """Return the categories that have examples which the encoder can take, and those."""
    named = []
    for policy in book.exemplified:
        windows = [first_window(text) for text in policy.examples]
        readable = [window for window in windows if window is not None]
        if len(readable) < len(windows):
            lost = len(windows) - len(readable)
            logger.warning("%s: the encoder cannot read %d examples", policy.name, lost)
        if readable:
            named.append((policy.name, list(dict.fromkeys(readable))))
    return named


def _within_bounds(named: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """Keep the first examples of every category, as many of each as MAX_EXAMPLES has room for."""
    share = max((len(examples) for _, examples in named), default=0)
    while sum(min(share, len(examples)) for _, examples in named) > MAX_EXAMPLES:
        share -= 1
    for name, examples in named:
        if len(examples) > share:
            logger.warning("%s: only its first %d examples count", name, share)
    return [(name, examples[:share]) for name, examples in named]


async def _encoded(
    texts: list[str], encode: Encode, checkpoint: str, memo_file: Path | None
) -> dict[str, Vector]:
    """Return each text's vector, from the memo or fresh; write down what was fresh."""
    memo = {} if memo_file is None else await asyncio.to_thread(load_memo, memo_file, checkpoint)
    keys = {text: text_digest(text) for text in texts}
    fresh = [text for text in texts if keys[text] not in memo]
    try:
        for start in range(0, len(fresh), BATCH):
            batch = fresh[start : start + BATCH]
            for text, row in zip(batch, await encode(batch), strict=True):
                memo[keys[text]] = np.array(row, np.float32)
    finally:
        if fresh and memo_file is not None:
            used = set(keys.values())
            in_use_first = {key: memo[key] for key in sorted(memo, key=lambda k: k not in used)}
            await asyncio.to_thread(save_memo, memo_file, checkpoint, in_use_first)
    return {text: memo[keys[text]] for text in texts}
