"""Vectors in one matrix, searched in full: the right index for a small set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from store.entry import Vector

NO_LABEL = -1
SMALL_CAPACITY = 64  # rows below which giving memory back is not worth a copy
GROWTH = 8  # a full matrix grows by this part of it: by half, ten rows would reserve thirteen

Found = list[tuple[int, float]]  # (label, cosine), nearest first


class View(NamedTuple):
    """The rows as they are now, for a scan that may run beside later changes."""

    rows: npt.NDArray[np.float32]  # shape (n, d)
    labels: npt.NDArray[np.int64]  # shape (n,); NO_LABEL marks a free row


class Flat:
    """Labelled unit vectors; a released row is taken again by a later vector.

    A label is never used twice, which is what lets `scan` notice a row that changed under it.
    """

    __slots__ = ("_free", "_labels", "_rows", "_slots", "_used")

    def __init__(self, dimension: int) -> None:
        self._rows = np.empty((1, dimension), np.float32)
        self._labels = np.full(1, NO_LABEL, np.int64)
        self._used = 0  # rows from here on were never used or are free again
        self._free: list[int] = []  # may name rows that are in use or past the end: see _take
        self._slots: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, label: int) -> bool:
        return label in self._slots

    @property
    def rows(self) -> int:
        """How many rows a scan reads, free ones included."""
        return self._used

    @property
    def capacity(self) -> int:
        """How many rows memory is reserved for."""
        return len(self._labels)

    def put(self, label: int, vector: Vector) -> None:
        """Add a unit vector of shape (d,) under a label that was never used before."""
        slot = self._take()
        self._rows[slot] = vector
        self._labels[slot] = label  # last: a scan in another thread must not see it earlier
        self._slots[label] = slot

    def fill(self, labels: npt.NDArray[np.int64], rows: npt.NDArray[np.float32]) -> None:
        """Take all vectors of an empty matrix at once: labels of shape (n,), rows (n, d)."""
        self._rows, self._labels = rows, labels
        self._used = len(labels)
        self._slots = {label: slot for slot, label in enumerate(labels.tolist())}

    def release(self, label: int) -> None:
        """Free the label's row; a label that is not here is ignored."""
        slot = self._slots.pop(label, None)
        if slot is None:
            return
        self._labels[slot] = NO_LABEL
        self._free.append(slot)
        while self._used and self._labels[self._used - 1] == NO_LABEL:
            self._used -= 1
        if self.capacity > SMALL_CAPACITY and self._used < self.capacity // 4:
            self._resize(max(self._used, 1))

    def view(self) -> View:
        """Return what a scan needs; it stays consistent while rows are put and released."""
        return View(self._rows[: self._used], self._labels[: self._used])

    def fetch(self, label: int) -> Vector:
        """Return a copy of a vector that is here."""
        vector: Vector = self._rows[self._slots[label]].copy()
        return vector

    def tail(self, limit: int) -> tuple[list[int], npt.NDArray[np.float32]]:
        """Return up to `limit` labels from the end with a copy of their vectors, shape (n, d)."""
        start = max(0, self._used - limit)
        labels = self._labels[start : self._used]
        held = np.flatnonzero(labels != NO_LABEL)
        return labels[held].tolist(), self._rows[start + held]

    def _take(self) -> int:
        while self._free:
            slot = self._free.pop()
            if slot < self._used and self._labels[slot] == NO_LABEL:
                return slot
        if self._used == self.capacity:
            self._resize(self.capacity + max(self.capacity // GROWTH, 1))
        self._used += 1
        return self._used - 1

    def _resize(self, capacity: int) -> None:
        rows = np.empty((capacity, self._rows.shape[1]), np.float32)
        labels = np.full(capacity, NO_LABEL, np.int64)
        rows[: self._used] = self._rows[: self._used]
        labels[: self._used] = self._labels[: self._used]
        self._rows, self._labels = rows, labels  # views keep the old arrays, frozen from now on


def scan(view: View, vector: Vector, k: int) -> Found:
    """Return the k nearest labels. Safe in any thread, beside puts and releases.

    A row that is rewritten during the product would pair one vector's cosine with another's
    label. Its label differs before and after then, since labels are never used twice.
    """
    before = view.labels.copy()
    cosines = view.rows @ vector
    cosines[(before != view.labels) | (before == NO_LABEL)] = -np.inf
    if len(cosines) > k:
        top = np.argpartition(cosines, len(cosines) - k)[len(cosines) - k :]
        top = top[np.argsort(cosines[top])[::-1]]
    else:
        top = np.argsort(cosines)[::-1]
    pairs = zip(before[top].tolist(), cosines[top].tolist(), strict=True)
    return [(label, cosine) for label, cosine in pairs if cosine > -np.inf]
