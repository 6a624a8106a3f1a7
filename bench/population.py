"""Synthetic entries for a full cache: categories, partitions, vectors, bodies.

Vectors are not a model's. They have the structure that an encoder's have and random ones lack:
each is a topic plus a deviation, both in LATENT of the 384 dimensions, plus a little noise in all
of them; so an entry has real neighbours (the same topic: cosine about 0.7), and a new wording is
an entry's vector turned away to a cosine of WORDING.

Bodies are chat completions of lognormal length (median 1.5 KiB, or 4 KiB for code) whose text
compresses about as prose does. Half of the entries lie in three large partitions, the others in
middling ones, in small ones, and in one-time partitions, as conversations make them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from store.entry import OVERHEAD, Entry, EntryId, PartitionKey, Vector
from store.eviction import Quota, Share

DIMENSION = 384
CHECKPOINT = "synthetic"
LATENT = 32
TOPICS = 2_000
DEVIATION, NOISE = 0.65, 0.2  # lengths beside a topic's 1
WORDING = 0.96  # cosine of a new wording to the entry that it asks for
AT_ONCE = 512  # entries drawn together
LARGEST_BODY = 64 * 2**10
MEDIAN_BODY, BODY_SPREAD = 1_500, 0.8
MEDIAN_CODE = 4_000
MEAN_ENTRY = 2_700 + 4 * DIMENSION + OVERHEAD + 50  # bytes: body, vector, books, texts
BODY = b'{"id":"chatcmpl-%s","object":"chat.completion","choices":[{"message":{"content":"%s"}}]}'
# Large, middling and small partitions: (how many, their part of the entries).
PARTITIONS = ((1, 0.28), (1, 0.14), (1, 0.08), (40, 0.20), (1_500, 0.20))
# The rest is alone: a conversation's partition holds one entry.

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Kind:
    """A category: its part of the room, its part of the traffic, how dear it is."""

    room: float
    traffic: float
    priority: float = 1.0


# Rooms and traffic differ, so that some hold more than their quota while there is idle room.
KINDS = {
    "facts": Kind(0.20, 0.22),
    "how-to": Kind(0.17, 0.16),
    "code": Kind(0.15, 0.14, 2.0),
    "conversation": Kind(0.12, 0.20, 0.5),
    "math": Kind(0.10, 0.08),
    "support": Kind(0.07, 0.005),  # hardly asked: what it may hold is lent, until it wants it
    "live": Kind(0.05, 0.08, 0.5),
    "legal": Kind(0.05, 0.035, 2.0),
    "medical": Kind(0.05, 0.04, 2.0),
    "default": Kind(0.04, 0.04),
}
CODE, QUIET = "code", "support"


def shares(entries: int) -> dict[str, Share]:
    """Return the categories' shares of a cache for so many entries, rounded down each."""
    return {
        name: Share(
            Quota(int(entries * kind.room), int(entries * kind.room * MEAN_ENTRY)), kind.priority
        )
        for name, kind in KINDS.items()
    }


class Population:
    """Draws entries for ever, the same ones for the same seed."""

    def __init__(self, seed: int = 7) -> None:
        self._random = np.random.default_rng(seed)
        self._numbers = itertools.count()
        basis, _ = np.linalg.qr(self._random.standard_normal((DIMENSION, LATENT)))
        self._basis = np.ascontiguousarray(basis.T, np.float32)
        self._topics = unit_rows(self._random, TOPICS, LATENT)
        self._prose = prose(self._random, 2**20)
        self._keys, self._weights = partition_keys()

    def entries(self, count: int, category: str | None = None) -> list[Entry]:
        """Return new entries, of one category or of all in proportion to their traffic."""
        return list(itertools.islice(self._endless(category), count))

    def wordings(self, vectors: Floats) -> Floats:
        """Return a new wording of each row: unit rows at a cosine of WORDING to it."""
        away = unit_rows(self._random, len(vectors), DIMENSION)
        away -= np.sum(away * vectors, axis=1, keepdims=True) * vectors
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        return np.asarray(WORDING * vectors + np.sqrt(1 - WORDING**2) * away, np.float32)

    def _endless(self, category: str | None) -> Iterator[Entry]:
        names = list(KINDS)
        traffic = np.array([kind.traffic for kind in KINDS.values()])
        traffic /= traffic.sum()
        while True:
            vectors = self.vectors(AT_ONCE)
            chosen = self._random.choice(len(names), AT_ONCE, p=traffic)
            places = self._random.choice(len(self._weights), AT_ONCE, p=self._weights)
            costs = self._random.lognormal(0.7, 0.8, AT_ONCE)
            for row, name, place, cost in zip(vectors, chosen, places, costs, strict=True):
                kind = category or names[name]
                yield self._entry(next(self._numbers), kind, int(place), row, float(cost))

    def _entry(self, number: int, category: str, place: int, vector: Vector, cost: float) -> Entry:
        id = EntryId(f"{number:032x}")
        alone = place == len(self._keys)
        return Entry(
            id=id,
            key=PartitionKey(f"{0:032x}", id) if alone else self._keys[place],
            tenant="bench",
            category=category,
            route="/v1/chat/completions",
            model="bench-model",
            query=f"what is to be said about matter {number}?",
            tags=(),
            created_at=datetime.now(UTC),
            content_type="application/json",
            body=self._body(id, MEDIAN_CODE if category == CODE else MEDIAN_BODY),
            checkpoint=CHECKPOINT,
            vector=vector.copy(),  # not a view that keeps all of its batch
            cost=cost,
        )

    def _body(self, id: EntryId, middle: int) -> bytes:
        length = min(int(self._random.lognormal(np.log(middle), BODY_SPREAD)), LARGEST_BODY)
        start = int(self._random.integers(len(self._prose) - length))
        return BODY % (id.encode(), self._prose[start : start + length])

    def vectors(self, count: int) -> Floats:
        """Return new unit rows of shape (count, DIMENSION)."""
        topics = self._topics[self._random.integers(TOPICS, size=count)]
        latent = topics + DEVIATION * unit_rows(self._random, count, LATENT)
        rows = latent @ self._basis + NOISE * unit_rows(self._random, count, DIMENSION)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def partition_keys() -> tuple[list[PartitionKey], npt.NDArray[np.float64]]:
    """Return the lasting partitions, and everybody's weight; the last weight is of those alone."""
    keys, weights = list[PartitionKey](), list[float]()
    for many, part in PARTITIONS:
        for _ in range(many):
            keys.append(PartitionKey(f"{len(keys) + 1:032x}", f"{0:032x}"))
            weights.append(part / many)
    return keys, np.array([*weights, 1.0 - sum(weights)])


def unit_rows(random: np.random.Generator, count: int, dimension: int) -> Floats:
    """Return random unit rows of shape (count, dimension)."""
    rows = random.standard_normal((count, dimension), dtype=np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def prose(random: np.random.Generator, length: int) -> bytes:
    """Return a text of made-up words, common ones more often, of `length` bytes."""
    letters = np.array(list(b"etaoinshrdlucmfwyp"), np.uint8)
    words = [
        letters[random.integers(len(letters), size=size)].tobytes()
        for size in random.integers(2, 11, size=3_000)
    ]
    ranks = random.zipf(1.3, size=length // 3)
    return b" ".join(words[rank % len(words)] for rank in ranks)[:length]
