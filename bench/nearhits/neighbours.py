"""What plain similarity would pick from the store, for the arms that do without the proxy."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from contextlib import aclosing

import numpy as np
import numpy.typing as npt

from bench.nearhits.tasks import Item
from bench.stand import say
from proxy.encoder_settings import EncoderSettings
from proxy.encoders import open_encoder

BATCH = 32
SHOWN = 5  # examples
SHARED_BY = 10  # items that are shown the same random examples, so that a prefix is reused

Vectors = npt.NDArray[np.float32]


class Encoded:
    """Texts' unit vectors from the encoder that serves by default, each encoded once."""

    def __init__(self) -> None:
        self._vectors: dict[str, Vectors] = {}

    async def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return one row a text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        async with aclosing(await open_encoder(EncoderSettings(), os.environ, say)) as encoder:
            for start in range(0, len(new), BATCH):
                some = new[start : start + BATCH]
                self._vectors.update(zip(some, await encoder.encode(some), strict=True))
                if start % (40 * BATCH) == 0 and start:
                    say(f"encoding: {start} of {len(new)} questions")
        return np.stack([self._vectors[text] for text in texts])


def nearest(
    asked: Vectors, stored: Vectors, items: Sequence[Item], most: int = SHOWN
) -> list[list[Item]]:
    """Return each question's most similar stored items, the most similar last."""
    order = np.argsort(asked @ stored.T, axis=1)[:, -most:]
    return [[items[index] for index in row] for row in order]


def random_examples(
    count: int, items: Sequence[Item], seed: int, most: int = SHOWN
) -> list[list[Item]]:
    """Return examples for `count` questions, drawn from the store anew for every ten of them."""
    draw = random.Random(seed)
    draws = [draw.sample(list(items), most) for _ in range(-(-count // SHARED_BY))]
    return [draws[index // SHARED_BY] for index in range(count)]
