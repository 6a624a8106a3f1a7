"""Earlier turns are encoded when that can lead to a hit, a few at a time, and never fail a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from embed.batcher import Batcher
from embed.encoder import Vector, Vectors
from embed.errors import EncoderFailed
from proxy.turns import AT_ONCE, TurnEncoder
from tests.encodings import encoding_of
from tests.entries import axis, near

FIRST, ANEW = "Which walks start at the pier?", "Which walks begin at the pier?"
COSINES = {FIRST: 1.0, ANEW: 0.95}


class ListeningEncoder:
    """Notes its batches; long texts do not fit, and one is too much for it."""

    checkpoint = "listening"
    dimension = 8
    max_tokens = 100

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def fits(self, text: str) -> bool:
        return len(text) < 100

    def first_window(self, text: str) -> str | None:
        return text[:99]

    async def encode(self, texts: Sequence[str]) -> Vectors:
        self.batches.append(list(texts))
        await self.gate.wait()
        if "bad" in texts:
            raise EncoderFailed("not this one")
        return np.stack([near(0, COSINES.get(text, 0.5)) for text in texts])

    async def aclose(self) -> None: ...


@pytest.fixture
def encoder() -> ListeningEncoder:
    return ListeningEncoder()


@pytest.fixture
async def turns(encoder: ListeningEncoder) -> AsyncIterator[TurnEncoder]:
    async with Batcher(encoder) as batcher:
        yield TurnEncoder(encoding_of(encoder, batcher))


def past(*earlier: str) -> tuple[Sequence[str], Sequence[Vector]]:
    """Return an entry's earlier turns and their vectors."""
    return earlier, (axis(0),) * len(earlier)


async def test_each_text_gets_its_vector_in_its_place(turns: TurnEncoder) -> None:
    first, long, again, bad = await turns.encode([FIRST, "long " * 50, FIRST, "bad"])
    assert first is not None and again is not None
    assert float(first @ again) == pytest.approx(1.0)
    assert (long, bad) == (None, None)
    assert await turns.encode([]) == ()


async def test_a_long_dialogue_waits_for_the_encoder_a_few_texts_at_a_time(
    turns: TurnEncoder, encoder: ListeningEncoder
) -> None:
    await turns.encode([f"turn {n}" for n in range(3 * AT_ONCE)])
    assert max(map(len, encoder.batches)) == AT_ONCE


async def test_a_rephrased_turn_is_the_same_from_its_threshold_on(turns: TurnEncoder) -> None:
    assert await turns.same((ANEW,), *past(FIRST), 0.94, 1.0)
    assert not await turns.same((ANEW,), *past(FIRST), 0.96, 1.0)


async def test_only_turns_that_differ_are_encoded(
    turns: TurnEncoder, encoder: ListeningEncoder
) -> None:
    assert await turns.same((FIRST, "And then?"), *past(FIRST, "And then?"), 1.0, 1.0)
    assert encoder.batches == []
    assert not await turns.same((ANEW, "At 5?"), *past(FIRST, "At 6?"), 0.0, 1.0)  # a guard's veto
    assert encoder.batches == []
    assert await turns.same((ANEW, "And then?"), *past(FIRST, "And then?"), 0.9, 1.0)
    assert encoder.batches == [[ANEW]]


async def test_what_is_not_known_in_time_is_not_the_same(
    turns: TurnEncoder, encoder: ListeningEncoder
) -> None:
    encoder.gate.clear()
    assert not await turns.same((ANEW,), *past(FIRST), 0.0, 0.01)
    encoder.gate.set()


async def test_what_the_encoder_fails_at_is_not_the_same(turns: TurnEncoder) -> None:
    assert not await turns.same(("bad",), *past(FIRST), -1.0, 1.0)
