"""How much an example is expected to help: a linear model that learns from judged answers.

Bayesian linear regression with forgetting (PAPERS.md 2.3 has a trained proxy model in its place).
Before it has learnt anything it is the calibrated similarity and ranks as the cosine does: a model
fitted offline tied with the cosine in choosing one of four (53 %) and lost on tasks that it had
not seen, so none is shipped. What was learnt fades, and with it the model returns to that prior.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from operator import mul
from typing import Any

import numpy as np
import numpy.typing as npt

from icl.answer_form import common_form
from icl.example import Example
from icl.features import SIZE, Features, features_of
from icl.shown import Asked

_VERSION = 1
# One-shot exact match by cosine, 432 pairs of nine tasks: 19 % at 0.11, 33 % at 0.44, 38 % at
# 0.55, 53 % at 0.75.
_BASE, _SLOPE = 0.13, 0.53
_CERTAINTY = 20.0  # judged examples that the prior weighs as much as
_KEEP = 0.999  # of what was known, with each judged answer
_HEAVIEST = 20.0  # weight of one answer


class UtilityModel:
    """Expected quality in [0, 1] of an answer that is helped by an example."""

    def __init__(self) -> None:
        prior = np.zeros(SIZE)
        prior[:2] = _BASE, _SLOPE
        self._prior_precision = np.eye(SIZE) * _CERTAINTY
        self._prior_moment = self._prior_precision @ prior
        self._precision = self._prior_precision.copy()
        self._moment = self._prior_moment.copy()
        self._weights: tuple[float, ...] = tuple(prior.tolist())
        self.seen = 0  # answers learnt from

    def value(self, features: Features) -> float:
        """Return the utility of an example with these features."""
        utility: float = sum(map(mul, self._weights, features))
        return max(0.0, min(1.0, utility))

    def scores(self, question: str, examples: Sequence[Example]) -> list[float]:
        """Return each example's utility beside no other."""
        request = Asked.read(question)
        common = common_form([example.shown.form for example in examples])
        return [self.value(features_of(request, example, common)) for example in examples]

    def learn(self, features: Sequence[Features], gain: float, weight: float = 1.0) -> None:
        """Learn that an answer helped by examples with these features had the quality `gain`.

        The answer counts `weight` times in all, at most 20, however many examples it had. Features
        of another size, and numbers that are none, are dropped: they come from other versions.
        """
        rows = np.asarray([f for f in features if len(f) == SIZE], dtype=np.float64)
        if not len(rows) or not np.isfinite(rows).all() or not math.isfinite(gain + weight):
            return
        rows = np.clip(rows, -1.0, 1.0)
        share = max(0.0, min(_HEAVIEST, weight)) / len(rows)
        fresh = 1.0 - _KEEP
        self._precision = _KEEP * self._precision + fresh * self._prior_precision
        self._moment = _KEEP * self._moment + fresh * self._prior_moment
        self._precision += share * rows.T @ rows
        self._moment += share * max(-1.0, min(1.0, gain)) * rows.sum(axis=0)
        self.seen += 1
        self._weigh()

    def _weigh(self) -> None:
        self._weights = tuple(np.linalg.solve(self._precision, self._moment).tolist())

    def as_data(self) -> dict[str, Any]:
        """Return what was learnt, for JSON."""
        return {
            "version": _VERSION,
            "precision": self._precision.tolist(),
            "moment": self._moment.tolist(),
            "seen": self.seen,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> UtilityModel:
        """Return the model that gave the data; data of another version or size gives a new one."""
        model = cls()
        if data.get("version") != _VERSION:
            return model
        precision, moment = _matrix(data.get("precision")), _matrix(data.get("moment"))
        if precision.shape != (SIZE, SIZE) or moment.shape != (SIZE,):
            return model
        if not _is_precision(precision):
            return model
        model._precision, model._moment = precision, moment
        seen = data.get("seen")
        model.seen = seen if isinstance(seen, int) else 0
        model._weigh()
        return model


def _matrix(value: object) -> npt.NDArray[np.float64]:
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return np.empty(0)
    return matrix if np.isfinite(matrix).all() else np.empty(0)


def _is_precision(matrix: npt.NDArray[np.float64]) -> bool:
    """Symmetric and positive: anything else would give weights without meaning."""
    if not np.allclose(matrix, matrix.T):
        return False
    return bool(np.linalg.eigvalsh(matrix)[0] > 1e-6)


LEVELS = (0.0, 0.3, 0.4, 0.5, 0.6)


class ThresholdTuner:
    """Which utility an example must have: the level whose answers gained most (PAPERS.md 2.3).

    A gain is an answer's quality less what its examples cost in tokens. Some requests try another
    level; the adopted one changes only for one that is better by a margin, so that noise does not
    move it. Old answers fade.
    """

    def __init__(
        self,
        *,
        token_cost: float = 0.0001,  # quality that one token of examples has to bring
        margin: float = 0.02,
        start: float = 0.3,  # share of requests that try a level, while none is known
        floor: float = 0.05,
        keep: float = 0.9995,  # of what was known, with each judged answer
        enough: float = 20.0,  # answers of a level before it may be adopted
    ) -> None:
        self._token_cost = token_cost
        self._margin = margin
        self._start, self._floor = start, floor
        self._keep = keep
        self._enough = enough
        self._counts = [0.0] * len(LEVELS)
        self._means = [0.0] * len(LEVELS)
        self._adopted = 0

    @property
    def adopted(self) -> float:
        """The level in force."""
        return LEVELS[self._adopted]

    @property
    def exploring(self) -> float:
        """The share of requests that try the least known level."""
        return max(self._floor, self._start / math.sqrt(1.0 + min(self._counts) / self._enough))

    def draw(self, draw: random.Random) -> float:
        """Return the level for one request."""
        if draw.random() >= self.exploring:
            return self.adopted
        return LEVELS[self._counts.index(min(self._counts))]

    def learn(self, level: float, quality: float, tokens: int, weight: float = 1.0) -> None:
        """Learn the quality of an answer whose examples, of `tokens` in all, met `level`."""
        if level not in LEVELS or not math.isfinite(quality + weight) or weight <= 0.0:
            return
        at = LEVELS.index(level)
        self._counts = [count * self._keep for count in self._counts]
        self._counts[at] += min(weight, _HEAVIEST)
        gain = max(-1.0, min(1.0, quality)) - self._token_cost * max(0, tokens)
        step = min(weight, _HEAVIEST) / self._counts[at]
        self._means[at] += step * (gain - self._means[at])
        self._adopt()

    def _adopt(self) -> None:
        if self._counts[self._adopted] < self._enough:
            return
        known = [at for at, count in enumerate(self._counts) if count >= self._enough]
        best = max(known, key=lambda at: (self._means[at], -at))
        if self._means[best] > self._means[self._adopted] + self._margin:
            self._adopted = best

    def as_data(self) -> dict[str, Any]:
        """Return what was learnt, for JSON."""
        return {
            "version": _VERSION,
            "levels": list(LEVELS),
            "counts": list(self._counts),
            "means": list(self._means),
            "adopted": self.adopted,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any], **settings: float) -> ThresholdTuner:
        """Return the tuner that gave the data; data of other levels gives a new one."""
        tuner = cls(**settings)
        if data.get("version") != _VERSION or data.get("levels") != list(LEVELS):
            return tuner
        counts, means = _matrix(data.get("counts")), _matrix(data.get("means"))
        size = (len(LEVELS),)
        if counts.shape != size or means.shape != size or (counts < 0.0).any():
            return tuner
        if data.get("adopted") not in LEVELS:
            return tuner
        tuner._counts, tuner._means = counts.tolist(), means.tolist()
        tuner._adopted = LEVELS.index(data["adopted"])
        return tuner
