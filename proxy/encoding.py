"""The encoder in force, with everything that may only be used beside its vectors, as one value.

A request takes it with the rest of `proxy/rules.py` and keeps to it: what it encodes, where it
searches, which score judges what is found and which checkpoint its answer is stored under are of
one checkpoint throughout, whatever is swapped meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from embed.batcher import Batcher
from embed.encoder import Encoder
from proxy.calibrated import LiveScore


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoding:
    """One checkpoint as it serves."""

    checkpoint: str  # the id that its vectors carry
    dimension: int
    encoder: Encoder
    batcher: Batcher  # running, and of this encoder
    score: LiveScore  # fitted to this encoder's cosines; it knows none where none is

    @classmethod
    def of(cls, encoder: Encoder, batcher: Batcher, score: LiveScore) -> Self:
        """Return an encoder with its batcher and what scores its cosines."""
        return cls(
            checkpoint=encoder.checkpoint,
            dimension=encoder.dimension,
            encoder=encoder,
            batcher=batcher,
            score=score,
        )
