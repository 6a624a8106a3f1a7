"""A cache whose documents other processes change too: what they have replaced is theirs to keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

from store.cache import Cache
from store.documents.base import without_body
from store.entry import EntryId, Version
from store.eviction import Quota, Share
from store.hot import Document
from store.index import PartitionedIndex
from store.journal import Mark, Put, Removed
from store.snapshot import Snapshot
from tests.entries import CHECKPOINT, DIMENSION, NOON, entry
from tests.fakes_documents import MemoryDocuments

A, B = EntryId("a"), EntryId("b")
LATER = NOON + timedelta(hours=1)
NEWER = entry("a", body=b"newer", created_at=LATER)
ITS_DOCUMENT = Document(NEWER.body, NEWER.content_type)


class Owing:
    """A snapshot that holds nothing and owes some deletions."""

    entries = vectors = 0
    mark = Mark("e", 1)

    def __init__(self, *owed: Version) -> None:
        self.owed = owed

    def held(self) -> Iterable[Any]:
        return iter(())


@asynccontextmanager
async def opened(documents: MemoryDocuments, snapshot: Owing | None = None) -> AsyncIterator[Cache]:
    index = PartitionedIndex(DIMENSION, threads=1)
    cache = await Cache.open(
        documents,
        index=index,
        shares={"default": Share(Quota(9, 2**20), 1.0)},
        checkpoint=CHECKPOINT,
        snapshot=cast(Snapshot, snapshot),
    )
    yield cache
    await cache.aclose()
    await index.aclose()


async def test_a_version_that_another_process_discards_takes_no_newer_one_along() -> None:
    documents = MemoryDocuments(NEWER)
    async with opened(documents) as cache:
        documents.tell(Removed((A,), purged=False, created=(NOON,)), own=False)
        assert cache.exact(A) is not None
        documents.tell(Removed((A,), purged=False, created=(LATER,)), own=False)
        assert cache.exact(A) is None


async def test_what_another_process_has_just_replaced_is_a_miss_until_its_record_comes() -> None:
    documents = MemoryDocuments(entry("a"))
    async with opened(documents) as cache:
        documents.entries[A] = NEWER
        assert await cache.document(A) is None
        await cache.aclose()  # which pays what is owed
        assert documents.entries == {A: NEWER}
        documents.tell(Put(without_body(NEWER)), own=False)
        assert await cache.document(A) == ITS_DOCUMENT


async def test_what_a_snapshot_owes_is_not_what_was_stored_in_its_place() -> None:
    documents = MemoryDocuments(NEWER, entry("b"))
    owed = Owing(Version(A, NOON), Version(B, NOON))
    async with opened(documents, owed) as cache:
        await cache.aclose()  # which pays, before the journal has told of what is new
        assert documents.entries == {A: NEWER}
        documents.tell(Put(without_body(NEWER)), own=False)
        assert await cache.document(A) == ITS_DOCUMENT
