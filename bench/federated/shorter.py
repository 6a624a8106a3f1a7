"""What PCA costs: cosines of shorter vectors, and finding the nearest stored question by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.federated.rows import PairSet
from embed.encoder import Vectors
from federated.pairs import LabelledPair
from federated.projection import DIMENSION, Moments, TooFewQueries, fit, moments, project, summed

RESCORED = 50


@dataclass(frozen=True, slots=True)
class Found:
    """How often the nearest of all stored questions is one that is right, of `asked` queries."""

    asked: int
    whole: float  # by whole vectors
    short: float  # by short ones
    rescored: float  # the 50 nearest by short ones, ordered by whole ones
    same: float  # rescored names the very question that whole vectors do


def projection_of(
    sites: Sequence[Sequence[LabelledPair]], vector_of: dict[str, npt.NDArray[np.float32]]
) -> tuple[npt.NDArray[np.float32] | None, int]:
    """Return the projection from the sums of the sites that may tell them, and how many those are.

    None if none may.
    """
    told: list[Moments] = []
    for pairs in sites:
        texts = list(dict.fromkeys(t for pair in pairs for t in (pair.query, pair.stored)))
        try:
            told.append(moments(np.stack([vector_of[text] for text in texts])))
        except (TooFewQueries, ValueError):
            continue
    return (fit(summed(told), DIMENSION) if told else None), len(told)


def found(
    rows: PairSet,
    fold: int,
    vector_of: dict[str, npt.NDArray[np.float32]],
    distractors: Sequence[str],
    projection: npt.NDArray[np.float32],
) -> Found | None:
    """Ask every query of the judged files' right rows of `fold` among all stored questions.

    None if there is none to ask.
    """
    asked = [
        pair
        for pair, own in zip(rows.pairs, rows.folds, strict=True)
        if own == fold and pair.label == 1 and pair.category in rows.judged
    ]
    if not asked:
        return None
    right: dict[str, set[str]] = {}
    for pair in rows.pairs:
        if pair.label == 1:
            right.setdefault(pair.query, set()).add(pair.stored)
    queries = list(dict.fromkeys(pair.query for pair in asked))
    texts = list(dict.fromkeys([*(p.stored for p in rows.pairs), *distractors]))
    texts = [text for text in texts if text not in right]  # nobody finds himself
    stored = np.stack([vector_of[text] for text in texts])
    wanted = np.stack([vector_of[text] for text in queries])
    by_whole, by_short = (
        wanted @ stored.T,
        _short(wanted, projection) @ _short(stored, projection).T,
    )
    near = np.argpartition(-by_short, min(RESCORED, len(texts)) - 1, axis=1)[:, :RESCORED]
    again = near[np.arange(len(queries)), np.take_along_axis(by_whole, near, axis=1).argmax(axis=1)]
    best = by_whole.argmax(axis=1)

    def share(places: npt.NDArray[np.intp]) -> float:
        hits = [texts[place] in right[query] for place, query in zip(places, queries, strict=True)]
        return float(np.mean(hits))

    return Found(
        len(queries), share(best), share(by_short.argmax(axis=1)), share(again),
        float((again == best).mean()),
    )  # fmt: skip


def _short(vectors: Vectors, projection: npt.NDArray[np.float32]) -> Vectors:
    return project(vectors, projection)
