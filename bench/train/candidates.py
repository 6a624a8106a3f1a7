"""What the score is trained on: asked questions, what is stored near them, and what is right.

Every `q1` of the files and every distractor is stored together; each `q2` that is not stored itself
meets its nearest stored questions as it would in the proxy. A candidate is right if some row labels
it 1 with this `q2`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.pairs import Rows
from embed.encoder import Vectors
from embed.held_out import components
from store.decision.features import NEIGHBORS, features, neighborhoods
from store.decision.guards import veto

LEAST = 0.6  # cosine of a candidate that is worth a row: from there on the score decides
JUDGED = 5  # nearest stored questions of a query that become rows
Encode = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True, slots=True)
class Example:
    """One candidate of one asked question."""

    query: str
    stored: str
    similarity: float
    features: tuple[float, ...]
    right: bool
    vetoed: bool


def examples_of(
    files: Mapping[str, Rows], distractors: Sequence[str], encode: Encode
) -> list[Example]:
    """Return the candidates of all questions that are asked and not stored."""
    every = [row for rows in files.values() for row in rows]
    stored = list(dict.fromkeys([row["q1"] for row in every] + list(distractors)))
    asked = sorted({row["q2"] for row in every} - set(stored))
    right: defaultdict[str, set[str]] = defaultdict(set)
    for row in every:
        if row["label"] == 1:
            right[row["q2"]].add(row["q1"])
    vectors = encode(stored + asked)
    similar = vectors[len(stored) :] @ vectors[: len(stored)].T
    nearest = np.argsort(-similar, axis=1)[:, :NEIGHBORS]
    examples = []
    for question, cosines, order in zip(asked, similar, nearest, strict=True):
        places = neighborhoods([float(cosines[i]) for i in order])
        for i, place in zip(order[:JUDGED], places, strict=False):
            if place.similarity < LEAST:
                break
            known = stored[i]
            seen, good = features(question, known, place), known in right[question]
            vetoed = veto(question, known) is not None
            examples.append(Example(question, known, place.similarity, seen, good, vetoed))
    return examples


def folds_of(files: Mapping[str, Rows], folds: int, seed: int = 0) -> dict[str, int]:
    """Return the fold of every text: texts that rows connect are always in one fold together."""
    pairs = [(row["q1"], row["q2"]) for rows in files.values() for row in rows]
    groups = components(pairs)
    numbers = list(range(max(groups, default=-1) + 1))
    random.Random(seed).shuffle(numbers)
    placed = [numbers[group] % folds for group in groups]
    return {text: fold for pair, fold in zip(pairs, placed, strict=True) for text in pair}
