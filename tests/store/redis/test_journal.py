"""Reading the journal in Redis after the fact, and letting go of what nobody needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from store.entry import EntryId
from store.errors import JournalGap
from store.journal import Mark, Record, Removed
from store.redis.appending import append
from store.redis.connection import RedisConnection
from store.redis.journal import RedisJournal
from store.redis.keys import Keys
from store.redis.remembered import Remembered
from store.redis.replica import Replica
from tests.redis_servers import VERSIONS
from tests.redis_stores import KEYS, ServerOf, connected


async def _note(key: str, name: str, row: str, client: Redis) -> None:
    await client.hset(key, name, row)


@asynccontextmanager
async def replica(connection: RedisConnection, directory: Path) -> AsyncIterator[Replica]:
    remembered = Remembered.open(directory)
    one = Replica(connection, KEYS, remembered)
    await one.join()
    await one.start()
    yield one
    await one.aclose()
    await remembered.aclose()


async def remove(connection: RedisConnection, one: Replica, keys: Keys = KEYS) -> int:
    change = Removed((EntryId("a"),), purged=False)
    position = await connection.ask(lambda r: append(r, keys, change, origin=one.name))
    await one.applied(position)
    return position


async def recorded(journal: RedisJournal, after: Mark) -> list[Record]:
    return [record async for part in journal.read(after, 2) for record in part]


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_came_after_a_mark_can_be_read_until_all_have_it_behind_them(
    redis_server: ServerOf, tmp_path: Path, version: str
) -> None:
    async with connected(redis_server(version)) as connection:
        await connection.ask(lambda r: r.flushall())
        async with replica(connection, tmp_path / "1") as one:
            journal = RedisJournal(connection, KEYS, one)
            positions = [await remove(connection, one) for _ in range(5)]
            epoch = one.epoch
            found = await recorded(journal, Mark(epoch, positions[1]))
            assert [record.position for record in found] == positions[2:]
            await journal.truncate(Mark(epoch, positions[2]))
            assert [r.position for r in await recorded(journal, Mark(epoch, positions[2]))] == (
                positions[3:]
            )
            assert await connection.ask(lambda r: r.xlen(KEYS.journal)) == 3  # its own proof stays
            with pytest.raises(JournalGap):
                await recorded(journal, Mark("another", positions[2]))


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_oldest_snapshot_of_those_who_live_holds_the_journal(
    redis_server: ServerOf, tmp_path: Path, version: str
) -> None:
    async with connected(redis_server(version)) as connection:
        await connection.ask(lambda r: r.flushall())
        async with replica(connection, tmp_path / "1") as one:
            async with replica(connection, tmp_path / "2") as two:
                positions = [await remove(connection, one) for _ in range(5)]
                await two.applied(positions[-1])
                await one.settled()  # both have told where they are
                await RedisJournal(connection, KEYS, two).truncate(Mark(one.epoch, positions[1]))
                journal = RedisJournal(connection, KEYS, one)
                await journal.truncate(Mark(one.epoch, positions[3]))
                assert await connection.ask(lambda r: r.xlen(KEYS.journal)) == 4
            await journal.truncate(Mark(one.epoch, positions[3]))  # the other may come back
            assert await connection.ask(lambda r: r.xlen(KEYS.journal)) == 4
            long_ago = f"{positions[1] >> 20}-0 1"
            await connection.ask(lambda r: r.hset(KEYS.snapshots, two.name, long_ago))
            await journal.truncate(Mark(one.epoch, positions[3]))
            assert await connection.ask(lambda r: r.xlen(KEYS.journal)) == 2


@pytest.mark.parametrize("version", VERSIONS)
async def test_who_was_not_seen_for_an_hour_holds_nothing_back(
    redis_server: ServerOf, tmp_path: Path, version: str
) -> None:
    async with connected(redis_server(version)) as connection:
        await connection.ask(lambda r: r.flushall())
        async with replica(connection, tmp_path / "1") as one:
            positions = [await remove(connection, one) for _ in range(5)]
            await one.settled()
            seconds, _ = await connection.ask(lambda r: r.time())
            place, now = f"{positions[0] >> 20}-0", seconds * 1000
            journal = RedisJournal(connection, KEYS, one)
            for minutes, kept in ((50, 5), (61, 1)):
                for key in (KEYS.replicas, KEYS.snapshots):
                    call = partial(_note, key, "killed", f"{place} {now - minutes * 60_000}")
                    await connection.ask(call)
                await journal.truncate(Mark(one.epoch, positions[4]))
                assert await connection.ask(lambda r: r.xlen(KEYS.journal)) == kept


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_snapshot_is_followed_from_while_its_place_is_kept(
    redis_server: ServerOf, tmp_path: Path, version: str
) -> None:
    async with connected(redis_server(version)) as connection:
        await connection.ask(lambda r: r.flushall())
        async with replica(connection, tmp_path / "1") as one:
            positions = [await remove(connection, one) for _ in range(3)]
            epoch = one.epoch
        remembered = Remembered.open(tmp_path / "1")
        again = Replica(connection, KEYS, remembered)
        told: list[Record] = []
        again.follow(told.append)
        assert await again.join(Mark(epoch, positions[0]))
        await again.start()
        await again.applied(positions[2])
        assert [record.position for record in told] == positions[1:]
        assert not await again.join(Mark("another", positions[0]))
        assert not await again.join(Mark(epoch, positions[0] + 1))
        await again.aclose()
        await remembered.aclose()
