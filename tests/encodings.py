"""Encodings and rules for tests that are about something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from embed.batcher import Batcher
from embed.encoder import Encoder, Vectors
from proxy.calibrated import LiveScore
from proxy.encoding import Encoding
from proxy.rules import Rules
from store.policy import PolicyBook
from tests.entries import CHECKPOINT, DIMENSION, axis


class AlikeEncoder:
    """Makes the same of every text."""

    checkpoint = CHECKPOINT
    dimension = DIMENSION
    max_tokens = 100

    def fits(self, text: str) -> bool:
        return True

    def first_window(self, text: str) -> str | None:
        return text

    async def encode(self, texts: Sequence[str]) -> Vectors:
        return np.stack([axis(0) for _ in texts])

    async def aclose(self) -> None: ...


def encoding_of(
    encoder: Encoder | None = None, batcher: Batcher | None = None, score: LiveScore | None = None
) -> Encoding:
    """Return an encoder as it serves; a batcher of its own is not running."""
    encoder = encoder or AlikeEncoder()
    return Encoding.of(encoder, batcher or Batcher(encoder), score or LiveScore(None))


def rules_of(book: PolicyBook, encoding: Encoding | None = None, **changes: Any) -> Rules:
    """Return the rules of a book."""
    return Rules(book=book, encoding=encoding or encoding_of(), **changes)
