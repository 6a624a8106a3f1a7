"""Replicas on a real Redis: what they hold, how sure they are, and what they do when it forgets."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from store.documents.base import held_of
from store.entry import EntryId
from store.errors import StoreUnavailable
from store.journal import Change, Complained, Record, Removed, Stopped
from store.redis.appending import append
from store.redis.codec import stream_id
from store.redis.connection import RedisConnection
from store.redis.documents import RedisDocuments
from store.redis.keys import Keys
from store.redis.remembered import Remembered, barrier
from store.redis.replica import Replica
from store.redis.replica_scripts import Beat
from tests.entries import entry
from tests.redis_servers import VERSIONS, RedisServer

pytestmark = pytest.mark.serial

A, B = EntryId("a"), EntryId("b")
KEYS = Keys()
STALENESS = 0.4  # seconds


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", request.param).start()
    yield server
    server.stop()


class Member:
    """A replica with what it was told."""

    def __init__(
        self,
        server: RedisServer,
        directory: Path,
        joining: float = 5.0,
        max_staleness: float = STALENESS,
    ) -> None:
        self.connection = RedisConnection.to(server.url, write_seconds=1.0)
        self.remembered = Remembered.open(directory)
        self.replica = Replica(
            self.connection,
            KEYS,
            self.remembered,
            max_staleness=max_staleness,
            joining_seconds=joining,
        )
        self.told: list[Record] = []
        self.reloads = 0
        self.reloading = asyncio.Event()
        self.reloading.set()
        self.replica.follow(self.told.append)
        self.replica.on_reload(self._reload)

    async def _reload(self) -> None:
        self.reloads += 1
        await self.reloading.wait()

    async def append(self, change: Change) -> int:
        name = self.replica.name
        position = await self.connection.ask(lambda r: append(r, KEYS, change, origin=name))
        await self.replica.applied(position)
        return position

    def changes(self) -> list[Change]:
        return [record.change for record in self.told]


@asynccontextmanager
async def member(
    server: RedisServer, directory: Path, joining: float = 5.0, max_staleness: float = STALENESS
) -> AsyncIterator[Member]:
    one = Member(server, directory, joining, max_staleness)
    await one.replica.join()
    await one.replica.start()
    assert await one.replica.caught_up(5)
    try:
        yield one
    finally:
        await one.replica.aclose()
        await one.remembered.aclose()
        await one.connection.aclose()


async def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def purge(*ids: EntryId) -> Removed:
    return Removed(ids, purged=True)


async def test_everybody_is_told_everything_in_one_order(
    server: RedisServer, tmp_path: Path
) -> None:
    async with member(server, tmp_path / "1") as one, member(server, tmp_path / "2") as two:
        for number in range(20):
            await (one, two)[number % 2].append(purge(EntryId(f"e{number}")))
        await until(lambda: len(one.told) == len(two.told) == 20)
        assert one.changes() == two.changes()
        assert [record.own for record in one.told] == [True, False] * 10
        assert [record.own for record in two.told] == [False, True] * 10


async def test_own_changes_are_applied_when_the_write_returns(
    server: RedisServer, tmp_path: Path
) -> None:
    async with member(server, tmp_path / "1") as one:
        await one.append(purge(A))
        assert one.changes() == [purge(A)]


async def test_a_replica_that_hears_nothing_stops_serving_and_comes_back(
    server: RedisServer, tmp_path: Path
) -> None:
    async with member(server, tmp_path / "1") as one:
        server.send(signal.SIGSTOP)
        stopped = time.monotonic()
        served = stopped

        def is_over() -> bool:
            nonlocal served
            now = time.monotonic()
            if one.replica.fresh:
                served = now
                return False
            return True

        await until(is_over)
        assert served - stopped <= STALENESS
        with pytest.raises(StoreUnavailable):
            await one.replica.ping()
        server.send(signal.SIGCONT)
        assert await one.replica.caught_up(5)
        assert one.reloads == 0  # it has missed nothing


async def test_a_machine_that_slept_serves_nothing_before_it_has_asked(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with member(server, tmp_path / "1") as one:
        await until(lambda: one.replica.fresh)
        clock = time.clock_gettime

        def after_an_hour(id: int) -> float:  # the monotonic clock stood still
            return clock(id) + (3600 if id == time.CLOCK_BOOTTIME else 0)

        monkeypatch.setattr(time, "clock_gettime", after_an_hour)
        assert not one.replica.fresh
        assert await one.replica.caught_up(5)


async def test_a_purge_waits_for_whoever_may_still_serve(
    server: RedisServer, tmp_path: Path
) -> None:
    async with member(server, tmp_path / "1") as one, member(server, tmp_path / "2") as two:
        await one.append(purge(A))
        await one.replica.settled()
        assert two.changes() == [purge(A)]  # it was out of reach of nothing

        held_up = asyncio.create_task(_never(two.replica))  # the second hears nothing from now on
        await held_up
        began = time.monotonic()
        await one.append(purge(B))
        await one.replica.settled()
        assert not two.replica.fresh
        assert time.monotonic() - began <= STALENESS + 0.3
        assert two.changes() == [purge(A)]


async def test_a_purge_waits_for_one_out_of_reach_as_long_as_that_one_may_serve(
    server: RedisServer, tmp_path: Path
) -> None:
    """Its max_staleness is another while a changed configuration is rolled out."""
    async with (
        member(server, tmp_path / "1") as one,
        member(server, tmp_path / "2", max_staleness=3 * STALENESS) as two,
    ):
        await _never(two.replica)
        await one.append(purge(A))
        await one.replica.settled()
        assert not two.replica.fresh
        assert two.changes() == []


async def _never(replica: Replica) -> None:
    for task in replica._tasks:
        task.cancel()
    await asyncio.wait(replica._tasks)


async def test_the_first_start_of_all_warns_of_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, server: RedisServer
) -> None:
    with caplog.at_level("INFO", "store"):
        async with member(server, tmp_path / "1") as one:
            assert [record.levelname for record in caplog.records] == ["INFO"]
            assert "one begins" in caplog.text
            await one.append(purge(A))
            await one.connection.ask(lambda r: r.flushall())
            await until(lambda: one.reloads == 1)
            assert "WARNING" in caplog.text and "lost records" in caplog.text


async def test_an_emptied_redis_begins_another_epoch(server: RedisServer, tmp_path: Path) -> None:
    async with member(server, tmp_path / "1") as one, member(server, tmp_path / "2") as two:
        await one.append(purge(A))
        before = one.replica.epoch
        await one.connection.ask(lambda r: r.flushall())
        await until(lambda: one.reloads == 1 and two.reloads == 1)
        assert await one.replica.caught_up(5)
        assert await two.replica.caught_up(5)
        assert one.replica.epoch == two.replica.epoch != before


async def test_a_redis_that_lost_its_last_writes_begins_another_epoch(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", "7", "--save", "", "--dbfilename", "dump.rdb").start()
    try:
        async with member(server, tmp_path / "1") as one:
            await one.append(purge(A))
            await one.connection.ask(lambda r: r.save())
            await one.append(purge(B))
            before = one.replica.epoch
            server.kill()
            server.start()
            await until(lambda: one.reloads == 1)
            assert await one.replica.caught_up(5)
            assert one.replica.epoch != before
            assert set(await one.remembered.purged()) == {A, B}
    finally:
        server.stop()


async def test_a_redis_that_lost_nothing_goes_on(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", "7", "--save", "", "--appendonly", "yes").start()
    try:
        async with member(server, tmp_path / "1") as one:
            await one.append(purge(A))
            server.kill()
            await until(lambda: not one.replica.fresh)
            server.start()
            assert await one.replica.caught_up(5)
            await one.append(purge(B))
            assert (one.changes(), one.reloads) == ([purge(A), purge(B)], 0)
    finally:
        server.stop()


async def test_nothing_is_served_before_all_hold_against_an_epoch_what_they_remember(
    server: RedisServer, tmp_path: Path
) -> None:
    async with member(server, tmp_path / "1") as one, member(server, tmp_path / "2") as two:
        await one.append(purge(A))
        await until(lambda: len(two.told) == 1)
        two.reloading.clear()  # the second takes its time
        # Records go, the registry stays: as after a return to an older state.
        await one.connection.ask(lambda r: r.delete(KEYS.journal))
        await until(lambda: one.reloads == 1 and two.reloads == 1)
        assert not await one.replica.caught_up(STALENESS * 2)
        two.reloading.set()
        assert await one.replica.caught_up(5)


async def test_a_new_epoch_does_not_wait_for_ever_for_who_is_gone(
    server: RedisServer, tmp_path: Path
) -> None:
    async with member(server, tmp_path / "1", joining=1.0) as one:
        await one.append(purge(A))
        await one.connection.ask(lambda r: r.hset(KEYS.replicas, "gone", "1-0 1"))
        now = int(time.time() * 1000)
        await one.connection.ask(lambda r: r.hset(KEYS.replicas, "gone", f"1-0 {now}"))
        await one.connection.ask(lambda r: r.delete(KEYS.journal))
        await until(lambda: one.reloads == 1)
        assert not one.replica.fresh
        assert await one.replica.caught_up(5)


async def test_what_was_purged_and_quarantined_is_on_this_disk_too(
    server: RedisServer, tmp_path: Path
) -> None:
    async with member(server, tmp_path / "1") as one:
        await one.append(purge(A, B))
        await one.append(Removed((EntryId("evicted"),), purged=False))
        await one.append(Stopped(A, "harbour"))
        name = one.replica.name
    again = Remembered.open(tmp_path / "1")
    try:
        assert again.replica == name
        assert set(await again.purged()) == {A, B}
        assert await again.stopped() == [(A, "harbour")]
    finally:
        await again.aclose()


async def test_what_a_replica_stored_whose_clock_is_ahead_stays_purged(
    server: RedisServer, tmp_path: Path
) -> None:
    """Redis may bring it back, and its time says that it is newer than the purge."""
    stored = entry("a", created_at=datetime.now(UTC) + timedelta(minutes=5))
    async with member(server, tmp_path / "1") as one:
        name = one.replica.name
        documents = await RedisDocuments.open(one.connection, keys=KEYS, origin=name)
        await documents.put(stored)
        assert await documents.purge([A, B]) == 1
        await documents.aclose()
        await one.replica.reach_end()
        barred = barrier(await one.remembered.purged())
        assert barred(held_of(stored))
        later = timedelta(seconds=1)
        assert not barred(held_of(replace(stored, created_at=stored.created_at + later)))


async def test_a_full_disk_has_nothing_told_twice(server: RedisServer, tmp_path: Path) -> None:
    async with member(server, tmp_path / "1") as one:
        note, tries = one.remembered.note, 0

        async def full(records: list[Record], epoch: str) -> None:
            nonlocal tries
            tries += 1
            if tries <= 3:
                raise StoreUnavailable("database or disk is full")
            await note(records, epoch)

        one.remembered.note = full  # type: ignore[method-assign, assignment]
        for change in (Complained("math"), purge(A)):
            last = await one.connection.ask(
                lambda r, c=change: append(r, KEYS, c, origin="another")  # type: ignore[misc]
            )
        await until(lambda: one.replica.position == last)
        assert tries > 3
        assert one.changes() == [Complained("math"), purge(A)]
        assert set(await one.remembered.purged()) == {A}


async def test_what_comes_before_a_record_that_cannot_be_read_is_told_and_remembered(
    server: RedisServer, tmp_path: Path
) -> None:
    async with member(server, tmp_path / "1") as one:
        await one.connection.ask(
            lambda r: r.eval(  # in one step, so that they are read together
                "redis.call('XADD', KEYS[1], '*', 'kind', 'removed', 'ids', '[\"a\"]',"
                " 'purged', '1'); redis.call('XADD', KEYS[1], '*', 'kind', 'of a later version')",
                1,
                KEYS.journal,
            )
        )
        await until(lambda: one.reloads == 1)
        assert one.changes() == [purge(A)]
        assert set(await one.remembered.purged()) == {A}


async def test_a_purge_that_was_missed_is_remembered_as_of_when_it_was_made(
    server: RedisServer, tmp_path: Path
) -> None:
    async with member(server, tmp_path / "1") as one:
        async with member(server, tmp_path / "2") as two:
            await one.append(Removed((B,), purged=False))
            await until(lambda: len(two.told) == 1)
            place = two.replica.mark
        await one.append(purge(A))
        stored_anew = datetime.now(UTC) + timedelta(milliseconds=50)
        await asyncio.sleep(0.1)
        back = Member(server, tmp_path / "2")
        assert await back.replica.join(place)
        await back.replica.start()
        try:
            await until(lambda: back.changes() == [purge(A)])
            assert await back.replica.caught_up(5)
            assert (await back.remembered.purged())[A] < stored_anew
        finally:
            await back.replica.aclose()
            await back.remembered.aclose()
            await back.connection.aclose()


async def test_a_journal_that_was_cut_is_loaded_anew_without_another_epoch(
    server: RedisServer, tmp_path: Path
) -> None:
    async with member(server, tmp_path / "1") as one:
        await one.append(purge(A))
        epoch = one.replica.epoch
        gone: Callable[[], Awaitable[object]] = lambda: one.connection.ask(  # noqa: E731
            lambda r: r.eval(
                "redis.call('XADD', KEYS[1], '*', 'kind', 'removed', 'ids', '[\"b\"]',"
                " 'purged', '1'); redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)",
                1,
                KEYS.journal,
            )
        )
        held = one.replica._take
        one.replica._take = _deaf  # type: ignore[method-assign]  # too slow for what comes
        await gone()
        await until(lambda: one.replica._behind or one.reloads == 1)
        one.replica._take = held  # type: ignore[method-assign]
        await until(lambda: one.reloads == 1)
        assert await one.replica.caught_up(5)
        assert one.replica.epoch == epoch


@pytest.mark.parametrize(
    ("lost", "forgotten"),
    [
        pytest.param("return 0", False, id="nothing"),
        pytest.param("return redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)", False, id="cut"),
        pytest.param("return redis.call('FLUSHALL')", True, id="emptied"),
        pytest.param(
            "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1]\n"
            "return redis.call('XDEL', KEYS[1], last)",
            True,
            id="as of before the last record",
        ),
    ],
)
async def test_a_replica_that_starts_knows_whether_redis_has_forgotten_what_it_had_applied(
    server: RedisServer, tmp_path: Path, lost: str, forgotten: bool
) -> None:
    async with member(server, tmp_path / "1") as one:
        await one.append(Removed((B,), purged=False))
        await one.append(purge(A))
        place = one.replica.mark
        if "MAXLEN" in lost:  # somebody else goes on
            other = Remembered.open(tmp_path / "2")
            await one.connection.ask(lambda r: append(r, KEYS, purge(B), origin=other.replica))
            await other.aclose()
            one.replica._take = _deaf  # type: ignore[method-assign]
    back = Member(server, tmp_path / "1")
    await back.connection.ask(lambda r: r.eval(lost, 1, KEYS.journal))
    assert await back.replica.join(place) is (lost == "return 0")
    assert back.replica.forgotten is forgotten
    assert (back.replica.epoch != place.epoch) is forgotten
    await back.replica.start()
    assert await back.replica.caught_up(5)
    assert not back.replica.forgotten  # what is loaded by now holds all that is remembered
    assert (await back.remembered.place() or place).epoch == back.replica.epoch
    await back.replica.aclose()
    await back.remembered.aclose()
    await back.connection.aclose()


async def test_a_replica_that_moves_on_while_it_asks_where_the_journal_is_has_lost_nothing(
    server: RedisServer, tmp_path: Path
) -> None:
    async with member(server, tmp_path / "1") as one:
        await one.append(purge(A))  # and asked just before, when nothing was there
        asked = Beat(one.replica.epoch, here=False, first=0, last=0, joining=0)
        one.replica._look(time.monotonic(), 0, asked)
        assert not one.replica._behind


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param("redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)", id="cut"),
        pytest.param("redis.call('XDEL', KEYS[1], ARGV[1])", id="lost"),
    ],
)
async def test_what_does_not_follow_what_was_applied_last_is_not_taken_up(
    server: RedisServer, tmp_path: Path, missing: str
) -> None:
    one = Member(server, tmp_path / "1")
    await one.connection.ask(lambda r: append(r, KEYS, purge(B), origin="other"))
    await one.replica.join()  # it was away for long, and reads before it asks where the journal is
    await one.connection.ask(lambda r: append(r, KEYS, purge(A), origin="other"))
    here = one.replica.mark.position
    await one.connection.ask(lambda r: append(r, KEYS, purge(B), origin="other"))
    await one.connection.ask(lambda r: r.eval(missing, 1, KEYS.journal, stream_id(here)))
    one.replica._behind = False
    await one.replica._read()
    assert one.told == []
    assert one.replica.mark.position == here
    await one.remembered.aclose()
    await one.connection.aclose()


async def _deaf(items: object) -> None:
    await asyncio.sleep(0.01)
