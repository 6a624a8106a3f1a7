"""What is searched before the category is known is used for that partition only, or for none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from embed.batcher import Batcher
from embed.encoder import T, Vector, Vectors
from proxy.auth import Caller
from proxy.call import Call, CallReader, Request
from proxy.look_ahead import LookAhead
from proxy.rules import InForce
from proxy.wire import WIRES
from store.cache import Cache
from store.entry import PartitionKey
from store.eviction import Quota, Share
from store.index import PartitionedIndex
from store.policy import Policy, PolicyBook, Scope
from tests.encodings import AlikeEncoder, encoding_of, rules_of
from tests.entries import CHECKPOINT, DIMENSION, axis, entry
from tests.fakes_documents import MemoryDocuments

BOOK = PolicyBook(
    {
        "default": Policy(name="default"),
        "faq": Policy(name="faq"),
        "prices": Policy(name="prices", scope=Scope.SHARED),
        "mine": Policy(name="mine", scope=Scope.USER),
    }
)


class SlowEncoder(AlikeEncoder):
    """Takes its time, and goes on with the vector as an encoder with a thread does."""

    async def encode_and(self, text: str, work: Callable[[Vector], T]) -> tuple[Vectors, T]:
        await asyncio.sleep(0.01)
        vectors = await self.encode([text])
        return vectors, await asyncio.to_thread(work, vectors[0])


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    index = PartitionedIndex(DIMENSION, threads=1)
    cache = await Cache.open(
        MemoryDocuments(),
        index=index,
        shares={"default": Share(Quota(100, 2**30), 1.0)},
        checkpoint=CHECKPOINT,
    )
    yield cache
    await cache.aclose()
    await index.aclose()


def call(user: str = "ann") -> Call:
    """A question whose category nobody has told yet."""
    body: dict[str, Any] = {
        "model": "gull-1",
        "messages": [{"role": "user", "content": "Is the ferry late?"}],
        "user": user,
    }
    request = Request(
        raw=orjson.dumps(body), header_list=[], headers={}, query_string=b"", request_id="r"
    )
    rules = rules_of(BOOK, encoding_of(SlowEncoder()))
    reader = CallReader(InForce(rules), {}, lambda model: "")
    asked = reader.read(WIRES["/v1/chat/completions"], request, Caller(tenant="harbour"))
    asked.placed = False
    return asked


async def looked(call: Call, cache: Cache) -> LookAhead:
    ahead = LookAhead(call, cache)
    async with Batcher(SlowEncoder()) as batcher:
        await batcher.encode(call.question.text, ahead)
    return ahead


def ids(ahead: LookAhead, key: PartitionKey) -> list[str] | None:
    near = ahead.neighbors(key)
    return None if near is None else [neighbor.id for neighbor in near]


async def test_what_is_near_is_known_as_soon_as_the_vector_is(cache: Cache) -> None:
    asked = call()
    await cache.admit(entry("a", key=asked.partition, vector=axis(0)))
    ahead = await looked(asked, cache)
    asked.place("faq")
    assert ids(ahead, asked.partition) == ["a"]


@pytest.mark.parametrize("category", ["prices", "mine"])
async def test_another_scope_is_searched_anew(cache: Cache, category: str) -> None:
    asked = call()
    await cache.admit(entry("a", key=asked.partition, vector=axis(0)))
    ahead = await looked(asked, cache)
    before = asked.partition
    asked.place(category)
    assert asked.partition != before
    assert ids(ahead, asked.partition) is None


@pytest.mark.parametrize("category", list(BOOK.names))
async def test_a_partition_asked_for_before_the_category_is_told_changes_nothing(
    category: str,
) -> None:
    early, late = call(), call()
    _ = early.partition
    for each in (early, late):
        each.place(category)
    assert early.partition == late.partition


async def test_users_stay_apart_whatever_was_asked_for_before() -> None:
    asked = [call("ann"), call("bob")]
    for each in asked:
        _ = each.partition
        each.place("mine")
    assert asked[0].partition != asked[1].partition


async def test_what_goes_meanwhile_is_not_found(cache: Cache) -> None:
    asked = call()
    for name in ("a", "b"):
        await cache.admit(entry(name, key=asked.partition, vector=axis(0)))
    ahead = await looked(asked, cache)
    await cache.remove([entry("a").id])
    assert ids(ahead, asked.partition) == ["b"]


async def test_a_vector_that_comes_at_once_was_not_searched(cache: Cache) -> None:
    asked = call()
    await cache.admit(entry("a", key=asked.partition, vector=axis(0)))
    ahead = LookAhead(asked, cache)
    ahead.begin()
    ahead.run(axis(0))
    assert ids(ahead, asked.partition) is None
    await asyncio.sleep(0.01)  # it gets ready too late
    assert ids(ahead, asked.partition) is None


async def test_an_empty_partition_is_left_to_the_lookup(cache: Cache) -> None:
    asked = call()
    ahead = await looked(asked, cache)
    assert ids(ahead, asked.partition) is None


async def test_a_search_that_fails_is_left_to_the_lookup(cache: Cache) -> None:
    asked = call()
    await cache.admit(entry("a", key=asked.partition, vector=axis(0)))
    ahead = LookAhead(asked, cache)
    ahead.begin()
    await asyncio.sleep(0.01)
    ahead.run(axis(0, DIMENSION + 1))
    assert ids(ahead, asked.partition) is None
