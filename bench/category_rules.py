"""Rules that tell a category from examples, and how well each does on labelled intents. Pure.

The proxy's own rule is `kernel`; the others are what it was chosen over.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.encoder import Vectors
from proxy.prototypes import Prototypes, solve

UNSEEN = -1  # the label of a query that is in none of the categories
Labels = npt.NDArray[np.intp]
Scores = npt.NDArray[np.float32]  # shape (queries, categories)
Rule = Callable[["Draw"], Scores]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Examples taken out of a data set, and the rest of it as queries."""

    examples: Vectors
    owners: Labels  # of the examples: positions in `names`
    names: tuple[str, ...]
    queries: Vectors
    labels: Labels  # of the queries; UNSEEN: out of scope


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the queries."""

    accuracy: float  # of the queries in scope, those that went to their own category
    strayed: float  # of the queries in scope, those that went to another one
    recall: float  # of the queries out of scope, those that went to none


def draw(
    vectors: Vectors,
    kinds: Sequence[str],
    intents: Sequence[str],
    unseen: frozenset[str],
    *,
    each: int,
    seed: int,
    spread: bool = False,
) -> Draw:
    """Take `each` random examples of every kind that is not unseen; ask all the rest.

    With `spread`, examples come from as many intents of their kind as there are.
    """
    order = list(range(len(kinds)))
    random.Random(seed).shuffle(order)
    names = tuple(sorted(set(kinds) - unseen))
    taken: list[int] = []
    owners: list[int] = []
    for number, name in enumerate(names):
        own = [row for row in order if kinds[row] == name]
        if spread:
            own = _round_robin(own, intents)
        taken += own[:each]
        owners += [number] * len(own[:each])
    rest = sorted(set(order) - set(taken))
    place = {name: number for number, name in enumerate(names)}
    return Draw(
        examples=vectors[taken],
        owners=np.array(owners, np.intp),
        names=names,
        queries=vectors[rest],
        labels=np.array([place.get(kinds[row], UNSEEN) for row in rest], np.intp),
    )


def _round_robin(rows: Sequence[int], intents: Sequence[str]) -> list[int]:
    """Return the rows so that every intent comes once before any comes twice."""
    seen: dict[str, int] = {}
    rounds = []
    for row in rows:
        seen[intents[row]] = seen.get(intents[row], 0) + 1
        rounds.append((seen[intents[row]], row))
    return [row for _, row in sorted(rounds, key=lambda each: each[0])]


def kernel(given: Draw) -> Scores:
    """Return what the proxy's prototypes score."""
    return prototypes_of(given).scores(given.queries)


def prototypes_of(given: Draw) -> Prototypes:
    """Return the proxy's prototypes of a draw's examples."""
    weights, threshold = solve(given.examples, given.owners, given.names)
    return Prototypes(
        checkpoint="bench",
        digest="",
        names=given.names,
        vectors=given.examples,
        weights=weights,
        threshold=threshold,
    )


def centroid(given: Draw) -> Scores:
    """Return the cosine to the mean of each category's examples."""
    means = np.stack(
        [given.examples[given.owners == k].mean(axis=0) for k in range(len(given.names))]
    )
    scores: Scores = given.queries @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    return scores


def nearest(count: int) -> Rule:
    """Return a rule: the mean cosine to a category's `count` nearest examples."""

    def score(given: Draw) -> Scores:
        cosines = given.queries @ given.examples.T
        best = [
            np.sort(cosines[:, given.owners == k], axis=1)[:, -count:].mean(axis=1)
            for k in range(len(given.names))
        ]
        return np.stack(best, axis=1)

    return score


RULES: Mapping[str, Rule] = {
    "centroid": centroid,
    "nearest example": nearest(1),
    "mean of the nearest 3": nearest(3),
    "mean of the nearest 5": nearest(5),
    "kernel": kernel,
}


def floor(scores: Scores) -> npt.NDArray[np.float32]:
    """Return how sure a decision is by the best score alone."""
    best: npt.NDArray[np.float32] = scores.max(axis=1)
    return best


def margin(scores: Scores) -> npt.NDArray[np.float32]:
    """Return how sure a decision is by the best score's lead over the second."""
    ordered = np.sort(scores, axis=1)
    lead: npt.NDArray[np.float32] = ordered[:, -1] - ordered[:, -2]
    return lead


def both(scores: Scores) -> npt.NDArray[np.float32]:
    """Return the best score and half its lead."""
    return floor(scores) + margin(scores) * np.float32(0.5)


CERTAINTIES = {"floor": floor, "margin": margin, "floor + margin / 2": both}


def bar_for(sureness: npt.NDArray[np.float32], labels: Labels, recall: float) -> float:
    """Return the bar under which this share of the queries out of scope falls."""
    return float(np.quantile(sureness[labels == UNSEEN], recall))


def outcome(
    scores: Scores, sureness: npt.NDArray[np.float32], labels: Labels, bar: float
) -> Result:
    """Return what becomes of the queries when a decision has to be this sure."""
    went = np.where(sureness >= bar, scores.argmax(axis=1), UNSEEN)
    seen = labels != UNSEEN
    right = went[seen] == labels[seen]
    strayed = ~right & (went[seen] != UNSEEN)
    out = went[~seen] == UNSEEN
    return Result(
        float(right.mean()), float(strayed.mean()), float(out.mean()) if out.size else float("nan")
    )


def own_outcome(given: Draw, remoteness_ratio: float = 1.0) -> Result:
    """Return what the proxy's own rule and threshold make of a draw, the threshold so scaled."""
    prototypes = prototypes_of(given)
    scores = prototypes.scores(given.queries)
    return outcome(scores, floor(scores), given.labels, prototypes.threshold * remoteness_ratio)
