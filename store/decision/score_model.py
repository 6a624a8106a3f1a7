"""What a score is made of: a line, trees and a kernel over features. Serving needs numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MOST_DECISIONS = 8  # of one tree
_FAR = 4.0  # standard deviations; what is further out counts as there


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Log-odds of being right that rise and fall with each feature."""

    slopes: Floats  # shape (f,)
    bias: float

    def log_odds(self, seen: Floats) -> Floats:
        """Return the log-odds of being right, shape (n,), of features of shape (n, f)."""
        odds: Floats = seen @ self.slopes + self.bias
        return odds


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """Boosted decision trees as one table of nodes; a leaf leads to itself.

    All decisions are made at once and those of a tree packed into a number, under which its value
    was looked up beforehand (after QuickScorer, Lucchese et al. 2015): a fifth of the time that
    walking takes. Raises ValueError if a tree has more than MOST_DECISIONS.
    """

    base: float
    roots: npt.NDArray[np.int32]  # shape (trees,), rising; a tree's nodes follow its root
    features: npt.NDArray[np.int32]  # shape (nodes,), as all below
    thresholds: Floats
    lefts: npt.NDArray[np.int32]
    rights: npt.NDArray[np.int32]
    values: Floats
    _asked: npt.NDArray[np.intp] = field(init=False)  # features, shape (trees * decisions,)
    _limits: Floats = field(init=False)  # of the same shape; to the left up to it
    _bits: npt.NDArray[np.uint8] = field(init=False)  # 1, 2, 4, ...; shape (decisions,)
    _first: npt.NDArray[np.intp] = field(init=False)  # a tree's place in `_reached`, (trees,)
    _reached: Floats = field(init=False)  # values by tree and packed decisions, (trees * codes,)

    def __post_init__(self) -> None:
        nodes, trees = np.arange(len(self.lefts)), len(self.roots)
        inner = np.flatnonzero(self.lefts != nodes)
        tree = np.searchsorted(self.roots, inner, side="right") - 1
        places = np.arange(len(inner)) - np.searchsorted(tree, tree)
        most = int(places.max(initial=0)) + 1
        if most > MOST_DECISIONS:
            raise ValueError(f"trees: one has {most} decisions, {MOST_DECISIONS} are allowed")
        asked, limits = np.zeros((trees, most), np.intp), np.full((trees, most), -np.inf)
        asked[tree, places], limits[tree, places] = self.features[inner], self.thresholds[inner]
        bits = np.zeros(len(nodes), np.intp)
        bits[inner] = places
        codes = np.arange(2**most)
        at = np.broadcast_to(self.roots[:, None], (trees, len(codes)))
        for _ in range(most):
            at = np.where((codes >> bits[at]) & 1, self.lefts[at], self.rights[at])
        object.__setattr__(self, "_asked", asked.ravel())
        object.__setattr__(self, "_limits", limits.ravel())
        object.__setattr__(self, "_bits", 1 << np.arange(most, dtype=np.uint8))
        object.__setattr__(self, "_first", np.arange(trees) << most)
        object.__setattr__(self, "_reached", self.values[at].ravel())

    def log_odds(self, seen: Floats) -> Floats:
        """Return the log-odds of being right, shape (n,), of features of shape (n, f)."""
        low = seen.take(self._asked, axis=1) <= self._limits
        by_tree = low.reshape(len(seen), len(self.roots), -1)
        codes = by_tree.view(np.uint8) @ self._bits  # numpy's packbits takes three times as long
        odds: Floats = self.base + self._reached.take(codes + self._first).sum(axis=1)
        return odds


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """Which examples that were known does it resemble? A support vector machine's Gaussians."""

    mean: Floats  # shape (f,), as the next
    scale: Floats
    vectors: Floats  # shape (s, f), standardised
    weights: Floats  # shape (s,)
    bias: float
    gamma: float
    # What can be multiplied beforehand, in single precision: exp is most of the time.
    _columns: npt.NDArray[np.float32] = field(init=False)  # shape (f, s)
    _squares: npt.NDArray[np.float32] = field(init=False)  # shape (s,)
    _weights: npt.NDArray[np.float32] = field(init=False)  # shape (s,)

    def __post_init__(self) -> None:
        columns = np.ascontiguousarray(2 * self.gamma * self.vectors.T, np.float32)
        squares = (self.gamma * (self.vectors**2).sum(axis=1)).astype(np.float32)
        object.__setattr__(self, "_columns", columns)
        object.__setattr__(self, "_squares", squares)
        object.__setattr__(self, "_weights", self.weights.astype(np.float32))

    def log_odds(self, seen: Floats) -> Floats:
        """Return something like log-odds of being right, shape (n,), of features (n, f)."""
        here = standardised(seen, self.mean, self.scale).astype(np.float32)
        near = here @ self._columns
        near -= self._squares
        near -= np.float32(self.gamma) * (here * here).sum(axis=1)[:, None]  # -gamma * distance**2
        odds: Floats = (np.exp(near, out=near) @ self._weights).astype(np.float64) + self.bias
        return odds


def standardised(seen: Floats, mean: Floats, scale: Floats) -> Floats:
    """Return features as a Kernel sees them: in standard deviations, none of them far out."""
    here: Floats = (seen - mean) / scale
    np.minimum(here, _FAR, out=here)  # of both, np.clip makes more
    np.maximum(here, -_FAR, out=here)
    return here


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Line, trees and kernel together, and what their mean says as a probability."""

    line: Line
    trees: Trees
    kernel: Kernel
    scaling: tuple[float, float] = (1.0, 0.0)  # Platt's slope and bias, for honest log-odds

    def log_odds(self, seen: Floats) -> Floats:
        """Return raw log-odds of being right, shape (n,), of features of shape (n, f)."""
        both = self.line.log_odds(seen) + self.trees.log_odds(seen)
        mean: Floats = (both + self.kernel.log_odds(seen)) / 3
        return mean

    def wrong(self, seen: Floats) -> Floats:
        """Return P(wrong), shape (n,), of features of shape (n, f)."""
        return wrong_of(self.log_odds(seen), self.scaling)


def wrong_of(log_odds: Floats, scaling: tuple[float, float]) -> Floats:
    """Return P(wrong) from raw log-odds of being right and Platt's slope and bias."""
    slope, bias = scaling
    wrong: Floats = 1 / (1 + np.exp(np.clip(slope * log_odds + bias, -30, 30)))
    return wrong


_WHOLE = ("roots", "features", "lefts", "rights")
_REAL = ("thresholds", "values")
_DIGITS = {"mean": 7, "scale": 7, "vectors": 4, "weights": 6}  # of a kernel; it has many numbers


def read_model(said: Mapping[str, Any]) -> Model:
    """Read what `model_data` wrote; raise KeyError, TypeError or ValueError if it did not."""
    trees, kernel = said["trees"], said["kernel"]
    slope, bias = map(float, said["scaling"])
    arrays = {name: np.array(kernel[name], np.float64) for name in _DIGITS}
    return Model(
        line=Line(np.array(said["line"]["slopes"], np.float64), float(said["line"]["bias"])),
        trees=Trees(
            base=float(trees["base"]),
            roots=np.array(trees["roots"], np.int32),
            features=np.array(trees["features"], np.int32),
            thresholds=np.array(trees["thresholds"], np.float64),
            lefts=np.array(trees["lefts"], np.int32),
            rights=np.array(trees["rights"], np.int32),
            values=np.array(trees["values"], np.float64),
        ),
        kernel=Kernel(**arrays, bias=float(kernel["bias"]), gamma=float(kernel["gamma"])),
        scaling=(slope, bias),
    )


def model_data(model: Model) -> dict[str, Any]:
    """Return a model as JSON, its numbers rounded to what makes a difference."""
    trees, kernel = model.trees, model.kernel
    lists = {name: getattr(trees, name).tolist() for name in _WHOLE}
    real = {name: [round(x, 7) for x in getattr(trees, name).tolist()] for name in _REAL}
    many = {name: getattr(kernel, name).round(digits).tolist() for name, digits in _DIGITS.items()}
    return {
        "scaling": model.scaling,
        "line": {"slopes": model.line.slopes.tolist(), "bias": model.line.bias},
        "trees": {"base": trees.base, **lists, **real},
        "kernel": {"gamma": kernel.gamma, "bias": kernel.bias, **many},
    }
