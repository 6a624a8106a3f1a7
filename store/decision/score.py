"""P(this stored answer is wrong for this query): a model over features, made honest.

`bench/train/score.py` fits it and writes `score.json`. Serving needs numpy only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from store.decision.features import FEATURE_NAMES, Neighborhood, features
from store.decision.score_model import Floats, Model, model_data, read_model
from store.errors import ScoreInvalid

FORMAT = 2
SHIPPED = Path(__file__).with_name("score.json")
POOLED = ""  # the head of categories without one of their own
_AT_ONCE = 4096  # pairs
Points = tuple[tuple[float, float], ...]  # (error budget, largest P(wrong) to serve), rising


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The score of some categories."""

    crowded: Model  # for a candidate among NEIGHBORS
    sparse: Model  # for one among fewer, which say nothing about it
    points: Points

    def wrong(self, seen: Floats, crowded: bool) -> Floats:
        """Return P(wrong), shape (n,), of features of shape (n, f) from one search."""
        return (self.crowded if crowded else self.sparse).wrong(seen)


@dataclass(frozen=True, slots=True)
class Recalibration:
    """What a head's log-odds of being right come to on one's own traffic, and how far to trust."""

    scaling: tuple[float, float]  # slope (above 0) and bias over what Platt's scaling gave
    points: Points  # in place of the head's


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Heads by category; POOLED for every other one."""

    encoder: str  # the checkpoint's name whose cosines it was fitted to
    heads: Mapping[str, Head]
    digest: str = ""  # of the file it was read from

    def fits(self, checkpoint: str) -> bool:
        """Whether it was fitted to the cosines of this encoder: its id is `name-digest`."""
        return checkpoint.rpartition("-")[0] == self.encoder

    def wrong(
        self, query: str, candidates: Sequence[tuple[str, str, Neighborhood]], category: str
    ) -> list[float]:
        """Return P(wrong) of each (stored query, its category, place) that one search found.

        `category` is the query's. Where the two have different heads, the more doubtful one counts.
        """
        if not candidates:
            return []
        seen = np.array([features(query, stored, place) for stored, _, place in candidates])
        crowded = candidates[0][2].density > 0
        risks = self._head(category).wrong(seen, crowded)
        for own in {own for _, own, _ in candidates}:
            if self._head(own) is not self._head(category):
                there = np.array([each == own for _, each, _ in candidates])
                risks[there] = np.maximum(risks[there], self._head(own).wrong(seen[there], crowded))
        return [float(risk) for risk in risks]

    def point(self, category: str, budget: float) -> float:
        """Return the largest P(wrong) that may be served for a budget before there is evidence.

        Between two budgets that were fitted the smaller one counts; below the smallest nothing
        may be served.
        """
        allowed = [point for fitted, point in self._head(category).points if fitted <= budget]
        return allowed[-1] if allowed else 0.0

    def head_name(self, category: str) -> str:
        """Return which of the heads scores a category: its own, or POOLED."""
        return category if category in self.heads else POOLED

    def points(self, category: str) -> Points:
        """Return the (error budget, largest P(wrong) to serve) pairs of a category's head."""
        return self._head(category).points

    def alone(self, pairs: Sequence[tuple[str, str, float]], category: str) -> Floats:
        """Return log-odds of being right, shape (n,), of (query, stored query, cosine) pairs.

        They are Platt-scaled, of the sparse model: the place among neighbours is not known.
        """
        model = self._head(category).sparse
        slope, bias = model.scaling
        odds = np.empty(len(pairs))
        for start in range(0, len(pairs), _AT_ONCE):
            part = pairs[start : start + _AT_ONCE]
            seen = np.array([features(a, b, Neighborhood(cosine)) for a, b, cosine in part])
            odds[start : start + len(part)] = slope * model.log_odds(seen) + bias
        return odds

    def with_scalings(self, recalibrations: Mapping[str, Recalibration]) -> Score:
        """Return the score with these heads calibrated anew.

        A category without a head of its own gets one, made from the pooled.
        """
        heads = {name: _rescaled(self._head(name), new) for name, new in recalibrations.items()}
        return replace(self, heads={**self.heads, **heads})

    def only(self, recalibrations: Mapping[str, Recalibration]) -> Score:
        """Return the score for another encoder: heads that are not calibrated anew serve nothing.

        Its order of candidates stays the shipped one; no decision point does.
        """
        new = self.with_scalings(recalibrations)
        heads = {
            name: head if name in recalibrations else replace(head, points=())
            for name, head in new.heads.items()
        }
        return replace(new, heads=heads)

    def _head(self, category: str) -> Head:
        return self.heads.get(category) or self.heads[POOLED]


def _rescaled(head: Head, new: Recalibration) -> Head:
    models = []
    for model in (head.crowded, head.sparse):
        (slope, bias), (steeper, more) = model.scaling, new.scaling
        models.append(replace(model, scaling=(steeper * slope, steeper * bias + more)))
    return Head(models[0], models[1], new.points)


def load_score(file: Path) -> Score:
    """Read a fitted score; raise ScoreInvalid with one line."""
    try:
        read = file.read_bytes()
        said = json.loads(read)
        if said["format"] != FORMAT or tuple(said["features"]) != FEATURE_NAMES:
            raise ScoreInvalid(f"{file}: fitted to other features than this version computes")
        heads = {category: _head_of(head) for category, head in said["heads"].items()}
        score = Score(str(said["encoder"]), heads, sha256(read).hexdigest()[:16])
        if POOLED not in heads:
            raise ScoreInvalid(f"{file}: heads: the pooled one is missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScoreInvalid(f"{file}: cannot be read: {error!r}") from None
    return score


@cache
def shipped_score() -> Score:
    """Read the score that this version ships, once a process; raise ScoreInvalid with one line."""
    return load_score(SHIPPED)


def save_score(score: Score, file: Path, more: Mapping[str, Any]) -> None:
    """Write a score, and what else is worth knowing about it (`more`), for load_score."""
    said = {
        "format": FORMAT,
        "encoder": score.encoder,
        **more,
        "features": FEATURE_NAMES,
        "heads": {category: _data_of(head) for category, head in score.heads.items()},
    }
    file.write_text(json.dumps(said) + "\n")


def _head_of(said: Mapping[str, Any]) -> Head:
    points = tuple((float(budget), float(point)) for budget, point in said["points"])
    return Head(read_model(said["crowded"]), read_model(said["sparse"]), points)


def _data_of(head: Head) -> dict[str, Any]:
    models = {"crowded": model_data(head.crowded), "sparse": model_data(head.sparse)}
    return {"points": head.points, **models}
