"""What was asked for before a purge that takes it is not stored after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from store.cache import Cache
from store.entry import Admission, Entry, EntryId
from store.eviction import Quota, Share
from store.index import PartitionedIndex
from store.purges import Purges
from store.writes import Writes
from tests.entries import CHECKPOINT, DIMENSION, entry
from tests.fakes_documents import MemoryDocuments

OF_A, OF_B = entry("a", tenant="harbour"), entry("b", tenant="airport")


def of_the_harbour(entry: Entry) -> bool:
    return entry.tenant == "harbour"


@pytest.fixture
def documents() -> MemoryDocuments:
    return MemoryDocuments()


@pytest.fixture
async def cache(documents: MemoryDocuments) -> AsyncIterator[Cache]:
    index = PartitionedIndex(DIMENSION, threads=1)
    shares = {"default": Share(Quota(9, 2**20), 1.0)}
    yield (cache := await Cache.open(documents, index=index, shares=shares, checkpoint=CHECKPOINT))
    await cache.aclose()
    await index.aclose()


async def test_a_purge_takes_what_was_asked_for_before_it_and_nothing_else() -> None:
    purges = Purges(Writes())
    before = purges.count
    await purges.begin(of_the_harbour)
    assert purges.took(OF_A, before)
    assert not purges.took(OF_B, before)
    assert not purges.took(OF_A, purges.count)


async def test_every_purge_since_counts() -> None:
    purges = Purges(Writes())
    first = purges.count
    await purges.begin(lambda entry: entry.id == "b")
    second = purges.count
    await purges.begin(of_the_harbour)
    assert purges.took(OF_B, first) and purges.took(OF_A, first)
    assert not purges.took(OF_B, second) and purges.took(OF_A, second)


async def test_of_too_many_purges_to_remember_each_might_have_taken_it() -> None:
    purges = Purges(Writes(), most=2)
    first = purges.count
    for _ in range(3):
        await purges.begin(lambda entry: False)
        assert not purges.took(OF_A, max(first, purges.count - 2))
    assert purges.took(OF_A, first)


async def test_an_answer_that_a_purge_has_overtaken_is_not_written(
    cache: Cache, documents: MemoryDocuments
) -> None:
    asked = cache.purges.count
    await cache.purges.begin(of_the_harbour)
    assert await cache.admit(OF_A, asked) is Admission.REMOVED
    assert await cache.admit(OF_B, asked) is Admission.STORED
    assert documents.entries.keys() == {"b"}
    assert await cache.admit(OF_A, cache.purges.count) is Admission.STORED


async def test_a_purge_waits_for_what_is_just_being_written(
    cache: Cache, documents: MemoryDocuments
) -> None:
    documents.writing.clear()
    admission = asyncio.create_task(cache.admit(OF_A, cache.purges.count))
    await asyncio.sleep(0)
    purge = asyncio.create_task(cache.purges.begin(of_the_harbour))
    await asyncio.sleep(0.01)
    assert not purge.done()
    later = asyncio.create_task(cache.admit(OF_B, cache.purges.count))  # it need not wait for this
    documents.writing.set()
    await purge
    assert await admission is Admission.STORED
    assert cache.exact(EntryId("a")) is not None  # for the purge to find
    await later


async def test_a_purge_waits_for_no_write_that_has_failed(
    cache: Cache, documents: MemoryDocuments
) -> None:
    documents.writing.clear()
    admission = asyncio.create_task(cache.admit(OF_A))
    await asyncio.sleep(0)
    purge = asyncio.create_task(cache.purges.begin(of_the_harbour))
    await asyncio.sleep(0)
    documents.failing = True
    documents.writing.set()
    await purge
    assert await admission is Admission.STORE_FAILED


async def test_what_is_written_while_another_process_begins_a_purge_never_becomes_visible(
    cache: Cache, documents: MemoryDocuments
) -> None:
    documents.writing.clear()
    asked = cache.purges.count
    writing = [asyncio.create_task(cache.admit(each, asked)) for each in (OF_A, OF_B)]
    await asyncio.sleep(0)
    cache.purges.hear(of_the_harbour)
    documents.writing.set()
    assert await asyncio.gather(*writing) == [Admission.REMOVED, Admission.STORED]
    assert cache.exact(OF_A.id) is None
    await cache.aclose()
    assert documents.entries.keys() == {"b"}
    assert await cache.admit(OF_A, asked) is Admission.REMOVED
