"""Giving entries the vectors of another checkpoint: all of them, once, at a share of the time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed.encoder import Vectors
from embed.errors import EncoderFailed
from proxy.reencoding import BATCH, LONGEST_REST, Reencoder, rest_after
from store.cache import Cache
from store.entry import EntryId
from store.eviction import Quota, Share
from store.index import PartitionedIndex
from store.vector_file import VectorFile
from tests.entries import CHECKPOINT, DIMENSION, KEY, axis, entry
from tests.fakes_documents import MemoryDocuments
from tests.word_encoder import WordEncoder, vector_of

NEW = "words-2"


class Ground:
    def __init__(self, cache: Cache, directory: Path) -> None:
        self.cache = cache
        self.encoder = WordEncoder(NEW)
        self.file = VectorFile.open(directory, NEW, self.encoder.dimension)
        self.reencoder = self.anew(1.0)

    def anew(self, share: float) -> Reencoder:
        return Reencoder(self.cache, self.encoder, self.encoder.encode, self.file, share)

    async def fill(self) -> list[tuple[int, int]]:
        told: list[tuple[int, int]] = []
        await self.reencoder.fill(lambda done, of: told.append((done, of)))
        return told

    async def found(self, text: str) -> list[str]:
        vector = vector_of(NEW, text)
        return [c.held.id for c in await self.cache.similar(KEY, vector, 1, checkpoint=NEW)]


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    cache = await Cache.open(
        MemoryDocuments(),
        index=PartitionedIndex(DIMENSION, threads=1),
        shares={"default": Share(Quota(10_000, 2**30), 1.0)},
        checkpoint=CHECKPOINT,
    )
    cache.vectors.open(NEW, PartitionedIndex(128, threads=1))
    ground = Ground(cache, tmp_path)
    yield ground
    ground.file.close()
    await cache.aclose()
    for checkpoint in cache.vectors.checkpoints:
        await cache.vectors[checkpoint].index.aclose()


async def put(ground: Ground, id: str, query: str, **changes: Any) -> None:
    fields = {"vector": axis(0), "query": query, **changes}
    await ground.cache.admit(entry(id, **fields))


async def test_every_entry_is_encoded_once_and_found(ground: Ground) -> None:
    for number in range(200):
        await put(ground, f"e{number}", f"question number {number // 2}")
    told = await ground.fill()
    assert told[0] == (0, 200) and told[-1] == (200, 200)
    assert sorted(ground.encoder.encoded) == sorted(f"question number {n}" for n in range(100))
    assert (await ground.found("question number 7"))[0] in ("e14", "e15")


async def test_what_is_found_by_its_exact_key_only_stays_so(ground: Ground) -> None:
    await put(ground, "a", "one question", vector=None)
    await ground.fill()
    assert ground.encoder.encoded == []


async def test_what_the_encoder_cannot_take_whole_is_tried_once(ground: Ground) -> None:
    await put(ground, "a", "word " * 200)
    await put(ground, "b", "a short one", earlier=("word " * 200,), earlier_vectors=(axis(0),))
    await ground.fill()
    await ground.fill()
    assert ground.encoder.encoded == ["a short one"]
    assert await ground.found("a short one") == ["b"]
    assert ground.cache.vectors.earlier(EntryId("b"), NEW) == ()


async def test_earlier_turns_are_encoded_with_their_question(ground: Ground) -> None:
    await put(ground, "a", "and in winter", earlier=("a lemon tree",), earlier_vectors=(axis(1),))
    await ground.fill()
    (past,) = ground.cache.vectors.earlier(EntryId("a"), NEW)
    assert past is not None
    np.testing.assert_allclose(past, vector_of(NEW, "a lemon tree"), atol=1e-6)


async def test_others_get_their_turn_while_it_is_looked_which_texts_fit(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(64):
        turns = tuple(f"turn {turn} of conversation {number}" for turn in range(3))
        past = {"earlier": turns, "earlier_vectors": (axis(1),) * 3}
        await put(ground, f"e{number}", f"question {number}", **past)
    looks = 0
    most = 0

    def fits(text: str) -> bool:
        nonlocal looks, most
        looks += 1
        most = max(most, looks)
        return True

    async def others() -> None:
        nonlocal looks
        while True:
            looks = 0
            await asyncio.sleep(0)

    monkeypatch.setattr(ground.encoder, "fits", fits)
    serving = asyncio.create_task(others())
    await ground.fill()
    serving.cancel()
    assert len(ground.encoder.encoded) == 64 * 4
    assert 0 < most <= BATCH


async def test_what_comes_meanwhile_is_caught_up_with(ground: Ground) -> None:
    await put(ground, "a", "the first one")
    await ground.fill()
    await put(ground, "b", "another one")
    assert list(ground.cache.vectors[NEW].lacking) == ["b"]
    await ground.reencoder.catch_up()
    assert await ground.found("another one") == ["b"]
    assert list(ground.cache.vectors[NEW].lacking) == []


async def test_one_that_is_removed_while_it_is_encoded_does_not_come_back(ground: Ground) -> None:
    await put(ground, "a", "the first one")
    ground.encoder.seconds = 0.05
    filling = asyncio.create_task(ground.fill())
    await asyncio.sleep(0.02)
    await ground.cache.remove([EntryId("a")])
    await filling
    assert await ground.found("the first one") == []


async def test_one_that_is_stored_anew_while_it_is_encoded_gets_its_new_vector(
    ground: Ground,
) -> None:
    await put(ground, "a", "the first one")
    ground.encoder.seconds = 0.05
    filling = asyncio.create_task(ground.fill())
    await asyncio.sleep(0.02)
    await put(ground, "a", "quite another question", body=b"{}")
    await filling
    assert await ground.found("quite another question") == ["a"]
    held = ground.cache.exact(EntryId("a"))
    assert held is not None and not ground.cache.vectors.lacks(held, NEW)


async def test_a_text_that_breaks_the_encoder_costs_no_other_its_vector(ground: Ground) -> None:
    class Picky(WordEncoder):
        async def encode(self, texts: Sequence[str]) -> Vectors:
            if "a bad one" in texts:
                raise EncoderFailed("not this")
            return await super().encode(texts)

    for id, text in (("a", "a bad one"), ("b", "a good one"), ("c", "one more")):
        await put(ground, id, text)
    ground.encoder = Picky(NEW)
    ground.reencoder = ground.anew(1.0)
    await ground.fill()
    assert await ground.found("a good one") == ["b"]
    assert ground.file.knows("a bad one") and ground.file.get("a bad one") is None


async def test_an_encoder_that_fails_at_everything_is_an_error_and_nobody_is_forgotten(
    ground: Ground,
) -> None:
    await ground.fill()
    await put(ground, "a", "the first one")
    ground.encoder.fails = True
    with pytest.raises(EncoderFailed):
        await ground.reencoder.catch_up()
    assert list(ground.cache.vectors[NEW].lacking) == ["a"]
    ground.encoder.fails = False
    await ground.reencoder.catch_up()
    assert await ground.found("the first one") == ["a"]


@pytest.mark.parametrize(
    ("spent", "share", "seconds"), [(0.02, 1.0, 0.0), (0.02, 0.5, 0.02), (0.02, 0.25, 0.06)]
)
def test_it_rests_for_the_rest_of_its_share(spent: float, share: float, seconds: float) -> None:
    assert rest_after(spent, share) == pytest.approx(seconds)


def test_a_machine_that_was_asleep_does_not_make_it_rest_for_long() -> None:
    assert rest_after(3600.0, 0.05) == LONGEST_REST
