"""The cosine from which two questions count as the same: a client's best, and everybody's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.promotion import BETA, best_cosine

Similarities = npt.NDArray[np.float32] | npt.NDArray[np.float64]  # shape (n,)
Labels = npt.NDArray[np.int_]  # shape (n,), 0 or 1
RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class Threshold:
    """A cosine, inclusive, and what it does on the pairs that it was judged on."""

    value: float
    precision: float  # 1 when nothing is let through
    recall: float
    f_beta: float
    false_hit_rate: float  # of the label-0 pairs
    n: int  # pairs


def best_threshold(similarities: Similarities, labels: Labels) -> Threshold | None:
    """Return the threshold of the highest F0.5, the stricter of equals; None without a label 1.

    It lies halfway to the next lower similarity, so that it holds for pairs not seen here.
    """
    value = best_cosine(similarities, labels == 1)
    return None if value is None else judged(value, similarities, labels)


def steady_threshold(
    similarities: Similarities, labels: Labels, resamples: int = RESAMPLES
) -> Threshold | None:
    """Return the mean of the best thresholds of resampled pairs; None without a label 1.

    The very best threshold of few pairs hangs on one or two of them (bagging, Breiman 1996). The
    same pairs give the same one.
    """
    chance = np.random.default_rng(len(labels))
    drawn: list[float] = []
    for _ in range(resamples if labels.any() else 0):
        some = chance.integers(0, len(labels), len(labels))
        best = best_cosine(similarities[some], labels[some] == 1)
        if best is not None:
            drawn.append(best)
    return judged(float(np.mean(drawn)), similarities, labels) if drawn else None


def judged(value: float, similarities: Similarities, labels: Labels) -> Threshold:
    """Return what a threshold does on these pairs."""
    let = similarities >= value
    positives, hits = int(labels.sum()), int(let.sum())
    right = int(labels[let].sum())
    negatives = len(labels) - positives
    weighted = BETA**2 * positives + hits
    return Threshold(
        value=value,
        precision=right / hits if hits else 1.0,
        recall=right / positives if positives else 0.0,
        f_beta=(1 + BETA**2) * right / weighted if weighted else 0.0,
        false_hit_rate=(hits - right) / negatives if negatives else 0.0,
        n=len(labels),
    )


def aggregate_thresholds(
    clients: Iterable[Mapping[str, tuple[float, int]]],
) -> dict[str, float]:
    """Return the mean threshold a category, each client's weighted by its number of pairs.

    A client gives category -> (value, n). A value that is no cosine, or that rests on no pair, does
    not count.
    """
    given: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for client in clients:
        for category, (value, n) in client.items():
            if n > 0 and -1.0 <= value <= 1.0:
                given[category].append((value, n))
    return {
        category: sum(value * n for value, n in values) / sum(n for _, n in values)
        for category, values in sorted(given.items())
    }
