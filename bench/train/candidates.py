"""What the score is trained on: asked questions, what is stored near them, and what is right.

Every `q1` of the files and every distractor is stored together; each `q2` that is not stored itself
meets its nearest stored questions as it would in the proxy. A candidate is right if some row labels
it 1 with this `q2`. By these a score is judged. It learns from more: the same the other way round
(`q2` stored, `q1` asked), from every text of chosen sets among all others of them, in which
versions of one question meet that no row brings together, and from contrasts, pairs of our own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.pairs import Rows
from embed.encoder import Vectors
from embed.held_out import components
from store.decision.features import NEIGHBORS, Neighborhood, features, neighborhoods
from store.decision.guards import veto

LEAST = 0.6  # cosine of a candidate that is worth a row: from there on the score decides
Sides = tuple[str, str]  # of a row: which is stored, which is asked
FORTH: Sides = ("q1", "q2")
BACK: Sides = ("q2", "q1")
JUDGED = 5  # nearest stored questions of a query that become rows
Encode = Callable[[Sequence[str]], Vectors]
# Whether the stored question's answer (second) is right for the asked one; None: nobody knows.
Rightness = Callable[[str, str], bool | None]


@dataclass(frozen=True, slots=True)
class Example:
    """One candidate of one asked question."""

    query: str
    stored: str
    similarity: float
    features: tuple[float, ...]
    right: bool
    vetoed: bool
    judged: bool = True  # else it is learnt from and nothing more


class Examples:
    """Makes examples of texts that are encoded once."""

    def __init__(self, texts: Iterable[str], encode: Encode) -> None:
        unique = list(dict.fromkeys(texts))
        self._vectors = dict(zip(unique, encode(unique), strict=True))

    def found(self, asked: Sequence[str], stored: Sequence[str], right: Rightness) -> list[Example]:
        """Return the candidates of all questions; none is a candidate of itself."""
        known = np.stack([self._vectors[text] for text in stored])
        places = {text: at for at, text in enumerate(stored)}
        examples: list[Example] = []
        for question in asked:
            cosines = known @ self._vectors[question]
            if question in places:
                cosines[places[question]] = -1.0
            order = np.argsort(-cosines)[:NEIGHBORS]
            near = neighborhoods([float(cosines[at]) for at in order])
            for at, place in zip(order[:JUDGED], near, strict=False):
                if place.similarity < LEAST:
                    break
                good = right(question, stored[at])
                if good is not None:
                    examples.append(_example(question, stored[at], place, good))
        return examples


def _example(query: str, stored: str, place: Neighborhood, right: bool) -> Example:
    seen = features(query, stored, place)
    return Example(query, stored, place.similarity, seen, right, veto(query, stored) is not None)


def examples_of(
    files: Mapping[str, Rows],
    distractors: Sequence[str],
    encode: Encode,
    *,
    among: Sequence[str] = (),
    contrasts: Rows | None = None,
) -> list[Example]:
    """Return the candidates of all questions, those to be judged first.

    Learnt from are also all texts of the sets `among` beside each other, and `contrasts`, pairs in
    a cache of their own.
    """
    every, ours = [row for rows in files.values() for row in rows], contrasts or []
    texts = [text for row in every + ours for text in (row["q1"], row["q2"])]
    make = Examples([*texts, *distractors], encode)
    found = _one_way(make, every, FORTH, distractors, answered(every, FORTH))
    learnt = _one_way(make, every, BACK, distractors, answered(every, BACK))
    chosen = [row for name in among for row in files.get(name, ())]
    if chosen:
        together = list(dict.fromkeys(text for row in chosen for text in (row["q1"], row["q2"])))
        learnt += make.found(together, together, kinship(chosen))
    for sides in (FORTH, BACK) if ours else ():
        learnt += _one_way(make, ours, sides, distractors, labelled(ours, sides))
    return found + [replace(each, judged=False) for each in learnt]


def _one_way(
    make: Examples, rows: Rows, sides: Sides, distractors: Sequence[str], right: Rightness
) -> list[Example]:
    kept, asking = sides
    stored = list(dict.fromkeys([row[kept] for row in rows] + list(distractors)))
    asked = sorted({row[asking] for row in rows} - set(stored))
    return make.found(asked, stored, right)


def answered(rows: Rows, sides: Sides) -> Rightness:
    """Return whether a row says that the stored question's answer is right; else it is not."""
    kept, asking = sides
    right = {(row[asking], row[kept]) for row in rows if row["label"] == 1}
    return lambda query, known: (query, known) in right


def labelled(rows: Rows, sides: Sides) -> Rightness:
    """Return what a row says of two questions; of others, which may well be alike, nothing."""
    kept, asking = sides
    labels = {(row[asking], row[kept]): row["label"] == 1 for row in rows}
    return lambda query, known: labels.get((query, known))


def kinship(rows: Rows) -> Rightness:
    """Return whether versions of one question have one answer; of another question they have not.

    Two that are both the same as the original are the same; one that is and one that is not are
    not. Of two that are both not nobody knows.
    """
    original: dict[str, str] = {}
    same: dict[str, bool] = {}
    for row in rows:
        original[row["q1"]], same[row["q1"]] = row["q1"], True
    for row in rows:
        if original.setdefault(row["q2"], row["q1"]) == row["q1"]:
            same[row["q2"]] = same.get(row["q2"], False) or row["label"] == 1

    def right(query: str, known: str) -> bool | None:
        if original[query] != original[known]:
            return False
        if same[query] and same[known]:
            return True
        return False if same[query] or same[known] else None

    return right


def folds_of(files: Mapping[str, Rows], folds: int, seed: int = 0) -> dict[str, int]:
    """Return the fold of every text: texts that rows connect are always in one fold together."""
    pairs = [(row["q1"], row["q2"]) for rows in files.values() for row in rows]
    groups = components(pairs)
    numbers = list(range(max(groups, default=-1) + 1))
    random.Random(seed).shuffle(numbers)
    placed = [numbers[group] % folds for group in groups]
    return {text: fold for pair, fold in zip(pairs, placed, strict=True) for text in pair}
