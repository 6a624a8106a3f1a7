"""Vectors as points of a plane: the two directions in which they differ most. Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_NOTHING = 1e-300  # of a picture: what differs by less lies in one place


class Projection(NamedTuple):
    """Where vectors lie on the plane that shows most of how they differ."""

    points: npt.NDArray[np.float64]  # shape (n, 2), around 0, in the order of the vectors
    share: float  # of the variance that the plane holds, 0 to 1


def projected(vectors: npt.NDArray[np.floating]) -> Projection:
    """Return vectors of shape (n, d) on their first two principal axes.

    Each axis points to where its component of largest size is positive, so that the same vectors
    always give the same picture.
    """
    rows = np.asarray(vectors, np.float64)
    points = np.zeros((len(rows), 2))
    if len(rows) == 0:
        return Projection(points, 1.0)
    centred = rows - rows.mean(axis=0)
    total = float((centred**2).sum())
    if total <= np.finfo(np.float64).eps * float((rows**2).sum()):  # all are the same
        return Projection(points, 1.0)
    # Of the d x d products: a seventh of the time that the n x d rows themselves would take.
    axes = np.linalg.svd(centred.T @ centred, hermitian=True)[0][:, :2]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    points[:, : axes.shape[1]] = centred @ axes
    return Projection(points, min(1.0, float((points**2).sum()) / total))


def fitted(
    points: npt.NDArray[np.float64], width: float, height: float, margin: float
) -> list[tuple[float, float]]:
    """Return points within a picture, one scale for both axes, the second axis pointing up."""
    if len(points) == 0:
        return []
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    spread = points.max(axis=0) - points.min(axis=0)
    room = np.array([width - 2 * margin, height - 2 * margin])
    fills = float((spread / room).max())  # how much of the room they take in the wider direction
    scale = 1.0 / fills if fills > _NOTHING else 0.0
    placed = (points - middle) * scale * np.array([1, -1]) + np.array([width, height]) / 2
    return [(round(float(x), 1), round(float(y), 1)) for x, y in placed]
