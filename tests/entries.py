"""Entries and vectors for tests of what stores them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from store.entry import Entry, EntryId, PartitionKey, Vector

KEY = PartitionKey("weather-bot", "stand-alone")
OTHER_KEY = PartitionKey("recipe-bot", "stand-alone")
NOON = datetime(2031, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)
CHECKPOINT = "mini-1"
DIMENSION = 8


def entry(id: str, **changes: Any) -> Entry:
    """Return an entry that differs from the others by its id, and in what is asked for."""
    fields: dict[str, Any] = {
        "id": EntryId(id),
        "key": KEY,
        "tenant": "harbour",
        "category": "default",
        "route": "/v1/chat/completions",
        "model": "gull-2",
        "query": f"when does ferry {id} leave?",
        "tags": (),
        "created_at": NOON,
        "content_type": "application/json",
        "body": f'{{"answer": "ferry {id} leaves at nine"}}'.encode(),
        "checkpoint": CHECKPOINT,
        "vector": None,
    }
    return Entry(**(fields | changes))


def axis(number: int, dimension: int = DIMENSION) -> Vector:
    """Return the unit vector along one axis: cosine 0 with every other axis."""
    vector = np.zeros(dimension, np.float32)
    vector[number] = 1
    return vector


def near(number: int, cosine: float, dimension: int = DIMENSION) -> Vector:
    """Return a unit vector with this cosine to an axis."""
    vector = axis(number, dimension) * np.float32(cosine)
    vector[(number + 1) % dimension] = np.sqrt(1 - cosine**2)
    return vector.astype(np.float32)


def directions(count: int, dimension: int = DIMENSION, seed: int = 7) -> list[Vector]:
    """Return random unit vectors, the same ones for the same seed."""
    rows = np.random.default_rng(seed).standard_normal((count, dimension))
    return list((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
