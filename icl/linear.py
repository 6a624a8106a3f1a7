"""Bayesian linear regression that forgets: what a row of numbers is worth, and how sure that is.

    precision = P0 + sum k^age * r * x x' / noise
    mean = precision^-1 * sum k^age * r * x y / noise

`k = 1 - 1 / memory` per observation, `r` how far the observation is trusted. What is forgotten
falls back to the prior P0 and not to nothing, so a direction that is never seen stays bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float64]


class Linear:
    """One regression y = w x around 0, its weights normal with mean 0 and the given variances."""

    def __init__(self, variances: Row, *, noise: float, memory: float) -> None:
        """`noise` is the variance of y around w x; `memory` counts observations."""
        self._prior = np.diag(1.0 / variances)
        self._noise = noise
        self._keep = 1.0 - 1.0 / memory
        self._seen = np.zeros_like(self._prior)  # precision beyond the prior
        self._moment = np.zeros(len(variances))
        self._posterior: tuple[Row, Row] | None = None  # mean and covariance, once asked for

    def learn(self, x: Row, y: float, trust: float = 1.0) -> None:
        """Take up one observation; `trust` within [0, 1]."""
        self.forget(1.0 - self._keep)
        self._seen += np.outer(x, x) * (trust / self._noise)
        self._moment += x * (y * trust / self._noise)

    def forget(self, share: float) -> None:
        """Let go of a share of all that was learnt, [0, 1]."""
        self._seen *= 1.0 - share
        self._moment *= 1.0 - share
        self._posterior = None

    def predict(self, x: Row) -> tuple[float, float]:
        """Return mean and variance of w x."""
        if self._posterior is None:
            inverse: Row = np.linalg.inv(self._prior + self._seen).astype(np.float64)
            self._posterior = (inverse @ self._moment, inverse)
        mean, covariance = self._posterior
        return float(mean @ x), max(0.0, float(x @ covariance @ x))

    def as_data(self) -> list[float]:
        """Return what was learnt, to six digits: the half of the precision, then the moment."""
        half = self._seen[np.triu_indices(len(self._moment))]
        return [float(f"{value:.6g}") for value in (*half, *self._moment)]

    def restore(self, data: Sequence[Any]) -> None:
        """Take up what `as_data` returned. Raises ValueError for anything else."""
        size = len(self._moment)
        half = np.triu_indices(size)
        values = [float(value) for value in data]
        if len(values) != len(half[0]) + size or not all(map(isfinite, values)):
            raise ValueError(f"{len(values)} numbers are no regression over {size}")
        seen = np.zeros_like(self._seen)
        seen[half] = values[:-size]
        self._seen = seen + np.triu(seen, 1).T
        self._moment = np.array(values[-size:])
        self._posterior = None
