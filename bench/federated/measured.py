"""What an encoder's cosines are worth: a threshold a file, learned on other rows, and F0.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from bench.federated.rows import Ints, PairSet
from embed.promotion import BETA
from federated.thresholds import Threshold, aggregate_thresholds, steady_threshold

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
RESAMPLES = 2000
NOTHING = 2.0  # a threshold that no cosine reaches
LEAST_RIGHT = 20  # right rows that were not trained on, from which a threshold is learned


@dataclass(frozen=True, slots=True)
class Counts:
    """Decisions on rows of one file, those of one fold by that fold's threshold."""

    f05: float
    precision: float
    recall: float
    false_hit_rate: float  # of the rows labelled 0
    thresholds: list[float]  # a fold


@dataclass(frozen=True, slots=True)
class Gain:
    """How much higher F0.5 is, with its 95 % interval over resampled groups of rows."""

    gain: float
    low: float
    high: float


def decide(
    rows: PairSet, fold: int, similarities: npt.NDArray[np.float32], trained: Bools | None = None
) -> tuple[Bools, dict[str, float]]:
    """Return whether each row is let through by its file's threshold, and the thresholds.

    A threshold is learned on the rows that are not of `fold`; decisions on those are of no use. An
    encoder flatters the rows that it was `trained` on (n,): where LEAST_RIGHT right rows are left
    that it was not, they alone tell. Without a right row nothing is let through.
    """
    let = np.zeros(len(rows.pairs), bool)
    thresholds: dict[str, float] = {}
    for name in rows.judged:
        own = rows.file(name)
        learnt = own & (rows.folds != fold)
        if trained is not None and rows.labels[learnt & ~trained].sum() >= LEAST_RIGHT:
            learnt &= ~trained
        best = steady_threshold(similarities[learnt], rows.labels[learnt])
        thresholds[name] = NOTHING if best is None else best.value
        let[own] = similarities[own] >= thresholds[name]
    return let, thresholds


def decide_by_clients(
    rows: PairSet, fold: int, similarities: npt.NDArray[np.float32], owners: Ints
) -> tuple[Bools, dict[str, float]]:
    """Do as `decide`, by the mean of the thresholds that each client finds on its own pairs.

    `owners` (n,) are the pairs' clients. So it goes where the server sees no pair at all.
    """
    found: list[dict[str, tuple[float, int]]] = []
    for client in range(int(owners.max()) + 1):
        mine: dict[str, tuple[float, int]] = {}
        for name in rows.judged:
            own = rows.file(name) & (rows.folds != fold) & (owners == client)
            best = steady_threshold(similarities[own], rows.labels[own])
            if best is not None:
                mine[name] = (best.value, best.n)
        found.append(mine)
    common = aggregate_thresholds(found)
    thresholds = {name: common.get(name, NOTHING) for name in rows.judged}
    let = np.zeros(len(rows.pairs), bool)
    for name, value in thresholds.items():
        let[rows.file(name)] = similarities[rows.file(name)] >= value
    return let, thresholds


def counted(rows: PairSet, name: str, let: Bools, thresholds: Sequence[float]) -> Counts:
    """Return what decisions (n,) come to on all rows of a file."""
    own = rows.file(name)
    labels, hits = rows.labels[own], let[own]
    right, positives = int(labels[hits].sum()), int(labels.sum())
    negatives = len(labels) - positives
    return Counts(
        f05=float(f_beta(np.array([hits.sum(), right, positives]))),
        precision=right / hits.sum() if hits.any() else 1.0,
        recall=right / positives if positives else 0.0,
        false_hit_rate=float((hits.sum() - right) / negatives) if negatives else 0.0,
        thresholds=[round(value, 4) for value in thresholds],
    )


def f_beta(counts: npt.NDArray[np.int_] | Floats) -> Floats:
    """Return F-beta of (..., 3) counts: let through, right among them, all that are right."""
    hits, right, positives = counts[..., 0], counts[..., 1], counts[..., 2]
    whole = BETA * BETA * positives + hits
    return np.asarray((1 + BETA * BETA) * right / np.maximum(whole, 1e-12))


def gains(
    rows: PairSet, ours: Bools, base: Bools, seed: int, resamples: int = RESAMPLES
) -> dict[str, Gain]:
    """Return the gain of `ours` over `base` a file, and their mean as "mean".

    Rows that share a text are not independent: whole groups are drawn, with replacement, the same
    ones for both.
    """
    chance = np.random.default_rng(seed)
    groups = int(rows.groups.max()) + 1
    weights = chance.multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    weights = np.concatenate([np.ones((1, groups), int), weights])  # the first: as they are
    differences = {
        name: f_beta(_resampled(rows, name, ours, weights))
        - f_beta(_resampled(rows, name, base, weights))
        for name in rows.judged
    }
    differences["mean"] = np.mean(list(differences.values()), axis=0)
    return {
        name: Gain(float(drawn[0]), *map(float, np.percentile(drawn[1:], (2.5, 97.5))))
        for name, drawn in differences.items()
    }


def _resampled(rows: PairSet, name: str, let: Bools, weights: Ints) -> Floats:
    """Return the counts of a file under each row of `weights` (b, groups), shape (b, 3)."""
    own = rows.file(name)
    groups, labels, hits = rows.groups[own], rows.labels[own], let[own]
    size = weights.shape[1]
    parts = (hits, hits & (labels == 1), labels == 1)
    return np.stack([weights @ np.bincount(groups, part, size) for part in parts], axis=-1)


def as_data(values: Mapping[str, Counts | Gain | Threshold]) -> dict[str, dict[str, object]]:
    """Return values as plain, rounded numbers."""
    return {
        name: {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(value).items()}
        for name, value in values.items()
    }
