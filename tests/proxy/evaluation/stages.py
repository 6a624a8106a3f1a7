"""A stage whose encoder is a table of angles, so that every cosine is known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from embed.encoder import Vectors
from proxy.evaluation.stage import Stage, open_stage
from proxy.settings import load_settings
from proxy.upkeep import utc_now
from store.policy_history import Seed
from tests.harness import policies, seed_of

DIMENSION = 8


class TableEncoder:
    """Puts each known text at its angle, in degrees, in a plane; a text beyond 200 letters is long.

    `passes` are the batches that were asked for.
    """

    checkpoint = "table"
    dimension = DIMENSION
    max_tokens = 100

    def __init__(self, angles: dict[str, float]) -> None:
        self.angles = angles
        self.passes: list[list[str]] = []
        self.closed = False

    def fits(self, text: str) -> bool:
        return len(text) <= 200

    def first_window(self, text: str) -> str | None:
        return text[:200]

    async def encode(self, texts: Sequence[str]) -> Vectors:
        self.passes.append(list(texts))
        rows = np.zeros((len(texts), DIMENSION), np.float32)
        for row, text in zip(rows, texts, strict=True):
            angle = np.radians(self.angles.get(text, 90.0))
            row[:2] = np.cos(angle), np.sin(angle)
        return rows

    async def aclose(self) -> None:
        self.closed = True


def category(**fields: Any) -> Seed:
    """Return policies with the `default` category only, with these fields."""
    return seed_of(policies({"name": "default", **fields}))


@asynccontextmanager
async def staged(
    folder: Path,
    encoder: TableEncoder,
    seed: Seed,
    clock: Callable[[], datetime] = utc_now,
) -> AsyncIterator[Stage]:
    """Open a stage whose configured data directory must stay untouched."""
    config = folder / "nearhit.yaml"
    config.write_text(f"data_dir: {folder / 'data'}\n")
    settings = load_settings(config, {})
    async with open_stage(settings, seed, {}, print_nothing, clock=clock, encoder=encoder) as stage:
        yield stage
    assert encoder.closed
    assert not (folder / "data").exists()


def print_nothing(line: str) -> None:
    """Take a line of progress."""
