"""The score's procedure fitted anew for each fold, on what no row of the fold is connected with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bench.pairs import Rows
from bench.rivals_decision import VectorOf
from bench.train.score import fitted
from embed.encoder import Vectors
from proxy.calibrated import LiveScore
from proxy.evaluation.pair_rows import PairRow
from proxy.evaluation.stage import Finder, Stage
from proxy.requests_root import build_searcher

Retrain = Callable[[Sequence[PairRow]], Awaitable[Finder]]


def retrain_on(
    stage: Stage,
    sets: Mapping[str, Rows],
    distractors: Sequence[str],
    rows: Sequence[PairRow],
    vector_of: VectorOf,
) -> Retrain:
    """Return what makes a fold's searcher for `evaluate_pairs`: the stage's, with another score.

    `sets` are all rows to learn from by name, `rows` those that are evaluated. A fold's score
    learns from all sets but the rows that have a text in common with what is asked in the fold.
    The stage's budgets ship that score's points from then on.
    """
    dimension = len(next(iter(vector_of.values())))

    def encode(texts: Sequence[str]) -> Vectors:
        unreadable = np.zeros(dimension, np.float32)  # near nothing
        return np.stack([vector_of.get(text, unreadable) for text in texts])

    async def retrain(others: Sequence[PairRow]) -> Finder:
        score, _ = fitted(without(sets, held_out(rows, others)), distractors, encode)
        stage.parts.budgets.live.ship(score.point)
        in_force = stage.parts.in_force
        encoding = replace(in_force.rules.encoding, score=LiveScore(score))
        in_force.rules = replace(in_force.rules, encoding=encoding)
        return build_searcher(stage.parts)

    return retrain


def held_out(rows: Sequence[PairRow], others: Sequence[PairRow]) -> set[str]:
    """Return all that users say in the rows that are not among the others."""
    kept = set(others)
    return {t for row in rows if row not in kept for q in (row.q1, row.q2) for t in q.user_texts}


def without(sets: Mapping[str, Rows], texts: set[str]) -> dict[str, Rows]:
    """Return the sets without the rows in which one of these texts is."""
    kept: defaultdict[str, Rows] = defaultdict(list)
    for name, rows in sets.items():
        kept[name] = [row for row in rows if not texts & {row["q1"], row["q2"]}]
    return dict(kept)
