"""An encoder whose vectors mean something within one checkpoint, and nothing in another.

A text's vector is the sum of its words' directions, which are drawn anew for every checkpoint. So
texts that share words are near each other whoever encodes them, and a vector that is compared with
one of another checkpoint is far from everything: whatever mixes two up is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from hashlib import sha256

import numpy as np

from embed.encoder import Vector, Vectors
from embed.errors import EncoderFailed

DIMENSION = 128


@cache
def direction(checkpoint: str, word: str, dimension: int) -> Vector:
    """Return a word's unit direction under a checkpoint."""
    seed = int.from_bytes(sha256(f"{checkpoint} {word}".encode()).digest()[:8], "big")
    drawn = np.random.default_rng(seed).standard_normal(dimension)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def vector_of(checkpoint: str, text: str, dimension: int = DIMENSION) -> Vector:
    """Return a text's unit vector under a checkpoint."""
    words = text.casefold().replace("?", " ").split()
    total = np.sum([direction(checkpoint, word, dimension) for word in words], axis=0)
    vector: Vector = (total / np.linalg.norm(total)).astype(np.float32)
    return vector


def cosine(checkpoint: str, one: str, other: str) -> float:
    """Return how near two texts are under a checkpoint."""
    return float(vector_of(checkpoint, one) @ vector_of(checkpoint, other))


class WordEncoder:
    """Encodes by words. It can be made slow, and to fail."""

    max_tokens = 100

    def __init__(self, checkpoint: str, *, dimension: int = DIMENSION, seconds: float = 0) -> None:
        self.checkpoint = checkpoint
        self.dimension = dimension
        self.seconds = seconds
        self.fails = False
        self.encoded: list[str] = []
        self.closed = False

    def fits(self, text: str) -> bool:
        return 0 < len(text.split()) < self.max_tokens

    def first_window(self, text: str) -> str | None:
        return text if self.fits(text) else None

    async def encode(self, texts: Sequence[str]) -> Vectors:
        await asyncio.sleep(self.seconds)
        if self.fails:
            raise EncoderFailed("out of words")
        self.encoded += texts
        return np.stack([vector_of(self.checkpoint, text, self.dimension) for text in texts])

    async def aclose(self) -> None:
        self.closed = True
