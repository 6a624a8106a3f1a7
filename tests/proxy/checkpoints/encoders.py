"""Encoders whose cosines a test chooses, and pairs to encode."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from embed.encoder import Vector, Vectors
from store.documents.records import Pair, PairSource
from store.entry import EntryId

DIMENSION = 64


class TopicEncoder:
    """Texts lie near their topic, the words before the "/": the nearer, the larger `pull`.

    "kettles/one" and "kettles/two" are of one topic; whether one answer does for both is what the
    pairs say.
    """

    dimension = DIMENSION
    max_tokens = 256

    def __init__(self, checkpoint: str, pull: float) -> None:
        self.checkpoint = checkpoint
        self.closed = False
        self.encoded: list[str] = []
        self._pull = pull

    def fits(self, text: str) -> bool:
        return len(text) < 200

    def first_window(self, text: str) -> str | None:
        return text[:199]

    async def encode(self, texts: Sequence[str]) -> Vectors:
        self.encoded += texts
        return np.stack([self._vector(text) for text in texts])

    async def aclose(self) -> None:
        self.closed = True

    def _vector(self, text: str) -> Vector:
        topic = text.rpartition("/")[0]
        pull = np.sqrt(self._pull) * _direction(topic) + np.sqrt(1 - self._pull) * _direction(text)
        row: Vector = (pull / np.linalg.norm(pull)).astype(np.float32)
        return row


def _direction(text: str) -> Vector:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    row = np.random.default_rng(seed).normal(size=DIMENSION)
    unit: Vector = (row / np.linalg.norm(row)).astype(np.float32)
    return unit


def pair(
    number: int,
    query: str,
    entry_query: str,
    label: int,
    category: str = "default",
    source: PairSource = "audit",
    similarity: float = 0.9,
) -> Pair:
    """Return a labelled pair."""
    return Pair(
        at=datetime(2026, 11, 30, tzinfo=UTC),
        tenant="acme",
        event=f"event {number}",
        query=query,
        entry_query=entry_query,
        entry_id=EntryId(f"{number:032x}"),
        similarity=similarity,
        label=label,
        category=category,
        source=source,
    )


def labelled(count: int, category: str = "default") -> list[Pair]:
    """Return right pairs, of one topic, and wrong ones, of two, by turns; no text comes twice."""
    return [
        pair(
            number,
            f"{category} {number}/asked",
            f"{category} {number if number % 2 else -number}/stored",
            number % 2,
            category,
        )
        for number in range(1, count + 1)
    ]
