"""Shorter vectors by PCA, fitted from sums over sites: no vector of a query leaves its site."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.encoder import Vectors

DoubleArray = npt.NDArray[np.float64]
DIMENSION = 128
LEAST_QUERIES = 200  # distinct ones: fewer, and the sums tell of single queries


class TooFewQueries(ValueError):
    """A site has too few distinct queries for its sums to be told."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What a site tells of its vectors: how many, their sum (d,) and sum of squares (d, d)."""

    count: int
    sum: DoubleArray
    outer: DoubleArray


def moments(vectors: Vectors, clip: float = 1.0, least: int = LEAST_QUERIES) -> Moments:
    """Return the sums over `vectors` (n, d), one a distinct query, none longer than `clip`.

    The clipping bounds what one query contributes, whatever the encoder does. Raise TooFewQueries.
    """
    if len(vectors) < least:
        raise TooFewQueries(f"{len(vectors)} distinct queries, {least} are needed")
    rows = vectors.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows *= np.minimum(1.0, clip / np.maximum(lengths, 1e-12))
    return Moments(len(rows), rows.sum(axis=0), rows.T @ rows)


def summed(sites: Iterable[Moments]) -> Moments:
    """Return the sums over all sites; raise ValueError without one."""
    parts: Sequence[Moments] = list(sites)
    if not parts:
        raise ValueError("no site told its sums")
    return Moments(
        sum(part.count for part in parts),
        np.sum([part.sum for part in parts], axis=0),
        np.sum([part.outer for part in parts], axis=0),
    )


def fit(total: Moments, dimension: int = DIMENSION) -> npt.NDArray[np.float32]:
    """Return the projection (dimension, d) onto the directions in which most of the vectors lies.

    Not centred, as in MeanCache: cosines are taken from the origin, and the mean of the vectors
    matters to them. Rows are orthonormal. Raise ValueError for a dimension that there is not.
    """
    if not 1 <= dimension <= len(total.sum):
        raise ValueError(f"dimension is {dimension}, allowed: 1 to {len(total.sum)}")
    values, directions = np.linalg.eigh((total.outer + total.outer.T) / (2 * total.count))
    top = directions[:, np.argsort(-values)[:dimension]].T
    signs = np.sign(top[np.arange(dimension), np.abs(top).argmax(axis=1)])
    return np.asarray(top * signs[:, None], np.float32)


def project(vectors: Vectors, projection: npt.NDArray[np.float32]) -> Vectors:
    """Return unit rows (n, dimension)."""
    short = vectors @ projection.T
    return np.asarray(short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12))
