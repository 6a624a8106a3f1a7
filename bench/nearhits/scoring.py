"""What an answer is worth, and how sure a mean is. Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.nearhits.tasks import CASE_MATTERS, Item

RESAMPLES = 2000
_OUTER = string.punctuation + string.whitespace


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int

    def percent(self) -> str:
        """Return it for a table, in percent."""
        return f"{100 * self.mean:.0f} [{100 * self.low:.0f}, {100 * self.high:.0f}]"


def exact(item: Item, text: str) -> bool:
    """Whether the answer is the reference, outer punctuation and (unless it matters) case aside."""
    fold = str if item.task in CASE_MATTERS else str.casefold
    said = " ".join(text.strip(_OUTER).split())
    return fold(said) == fold(" ".join(item.answer.strip(_OUTER).split()))


def lenient(item: Item, text: str) -> bool:
    """Whether the reference occurs in the answer as a word: a verbose answer is not a wrong one."""
    flags = 0 if item.task in CASE_MATTERS else re.IGNORECASE
    wanted = re.escape(item.answer.strip(_OUTER))
    return re.search(rf"(?<!\w){wanted}(?!\w)", text, flags) is not None


def mean_of(values: Sequence[float], seed: int = 0) -> Interval:
    """Return the mean and its bootstrap interval over items."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    drawn = np.random.default_rng(seed).integers(0, len(array), (RESAMPLES, len(array)))
    low, high = np.percentile(array[drawn].mean(axis=1), (2.5, 97.5))
    return Interval(float(array.mean()), float(low), float(high), len(array))


def gain_of(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Interval:
    """Return the mean difference, item by item, and its interval; both in the same order."""
    pairs: np.ndarray[Any, np.dtype[np.float64]] = np.subtract(ours, theirs, dtype=np.float64)
    return mean_of(pairs.tolist(), seed)
