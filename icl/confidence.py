"""How sure a small model was of an answer, and what that is worth: a cascade's deferral rule.

An engine tells the probability of each token that it wrote. The least of them says far more of
whether the answer is right than all that is known of a question beforehand: of 600 real answers it
tells right from wrong with an AUC of 0.86, the agreement of the examples with 0.79, similarity with
0.60 (docs/LOG.md). So an answer that the model was not sure of is not sent, and the request goes to
the requested model instead: a cascade, as in FrugalGPT (Chen, Zaharia and Zou 2023), with what
confidence is worth learnt from judged answers, for each model and category.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, isfinite
from typing import Any, NamedTuple

import numpy as np

from icl.linear import Linear, Row

TOKENS = 32  # of an answer that are looked at: a stream is held back for so many
_LEAST, _SLOPE = 0.15, 0.8  # expected quality of an answer of confidence 0, and what 1 adds
_SPREAD = 0.05  # prior variance of what is learnt beyond that
# Judged answers. Three numbers are learnt from so few; with more a model that was spoilt and is
# well again would be believed after thousands of requests only.
_MEMORY = 40.0


class Confidence(NamedTuple):
    """Of the probabilities of an answer's first tokens, [0, 1]."""

    least: float
    mean: float  # geometric


def confidence_of(logprobs: Iterable[float]) -> Confidence | None:
    """Return the confidence of an answer by the log-probabilities of its tokens, in their order.

    None where there are none, or one is no log-probability.
    """
    first = [value for _, value in zip(range(TOKENS), logprobs, strict=False)]
    if not first or not all(isfinite(value) and value <= 0.0 for value in first):
        return None
    return Confidence(exp(min(first)), exp(sum(first) / len(first)))


class ConfidenceModel:
    """The quality of one small arm's answers in one category, by their confidence."""

    def __init__(self, *, noise: float) -> None:
        """`noise` is the variance of a judged quality."""
        self._beyond = Linear(np.full(3, _SPREAD), noise=noise, memory=_MEMORY)

    def quality(self, confidence: Confidence) -> float:
        """Return the expected quality, [0, 1]."""
        learnt, _ = self._beyond.predict(_row(confidence))
        return min(max(_usual(confidence) + learnt, 0.0), 1.0)

    def learn(self, confidence: Confidence, quality: float, trust: float) -> None:
        """Take up a judged answer; `trust` within [0, 1]."""
        self._beyond.learn(_row(confidence), quality - _usual(confidence), trust)

    def forget(self, share: float) -> None:
        """Let go of a share of all that was learnt, [0, 1]."""
        self._beyond.forget(share)

    def as_data(self) -> list[float]:
        """Return what was learnt."""
        return self._beyond.as_data()

    def restore(self, data: Sequence[Any]) -> None:
        """Take up what `as_data` returned. Raises ValueError for anything else."""
        self._beyond.restore(data)


def _usual(confidence: Confidence) -> float:
    return _LEAST + _SLOPE * confidence.least


def _row(confidence: Confidence) -> Row:
    return np.array((*confidence, 1.0))
