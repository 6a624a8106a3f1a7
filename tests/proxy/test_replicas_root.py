"""A purge here, while another replica is just writing what it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.admin.purge import Purge, matching, told
from proxy.replicas_root import hear_purges
from store.cache import Cache
from store.entry import Admission, EntryId
from store.eviction import Quota, Share
from store.index import PartitionedIndex
from store.journal import Purging
from store.redis.connection import RedisConnection
from store.redis.documents import RedisDocuments
from store.redis.keys import Keys
from store.redis.remembered import Remembered
from store.redis.replica import Replica
from tests.entries import CHECKPOINT, DIMENSION, entry
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.serial

A = EntryId("a")
KEYS = Keys()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


class One:
    """A replica with its memory, whose documents wait to be written while told to."""

    def __init__(self, documents: RedisDocuments, replica: Replica, cache: Cache) -> None:
        self.documents, self.replica, self.cache = documents, replica, cache
        self.may_write = asyncio.Event()
        self.may_write.set()
        put = documents.put

        async def later(stored: object) -> None:
            await self.may_write.wait()
            await put(stored)  # type: ignore[arg-type]

        documents.put = later  # type: ignore[method-assign, assignment]

    async def purge_all(self) -> None:
        """Purge everything, as the admin API does."""
        await self.replica.tell(Purging(told(Purge(all=True))))
        await self.replica.settled()
        await self.cache.remove(await matching(self.documents, Purge(all=True)))
        await self.replica.settled()


@asynccontextmanager
async def one(server: RedisServer, directory: Path) -> AsyncIterator[One]:
    connection = RedisConnection.to(server.url)
    remembered = Remembered.open(directory)
    replica = Replica(connection, KEYS, remembered)
    documents = await RedisDocuments.open(
        connection, keys=KEYS, origin=replica.name, applied=replica.applied, follow=replica.follow
    )
    await replica.join()
    index = PartitionedIndex(DIMENSION, threads=1)
    shares = {"default": Share(Quota(9, 2**20), 1.0)}
    cache = await Cache.open(documents, index=index, shares=shares, checkpoint=CHECKPOINT)
    hear_purges(cache, documents, replica)
    await replica.start()
    assert await replica.caught_up(5)
    yield One(documents, replica, cache)
    await cache.aclose()
    await index.aclose()
    await replica.aclose()
    await documents.aclose()
    await remembered.aclose()
    await connection.aclose()


async def test_what_another_replica_was_just_writing_is_not_served_after_a_purge(
    server: RedisServer, tmp_path: Path
) -> None:
    async with one(server, tmp_path / "1") as here, one(server, tmp_path / "2") as there:
        there.may_write.clear()
        writing = asyncio.create_task(there.cache.admit(entry("a")))
        purging = asyncio.create_task(here.purge_all())
        await asyncio.sleep(0.2)  # time enough for a purge that waits for nobody
        there.may_write.set()
        await purging
        assert await writing is Admission.REMOVED
        for _ in range(20):
            assert here.cache.exact(A) is None
            assert there.cache.exact(A) is None
            await asyncio.sleep(0.005)
        assert await here.documents.get(A) is None
