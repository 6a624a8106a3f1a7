"""What entries and records in Redis do besides the contracts."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from store.documents.base import Filter
from store.documents.records import Bounds
from store.entry import EntryId, Version
from store.errors import StoreUnavailable
from store.journal import (
    Apply,
    Approved,
    Change,
    PolicyAdded,
    Put,
    Record,
    Released,
    Removed,
    Stopped,
    TenantForgotten,
)
from store.redis.appending import append, discarded_command, vanished_command
from store.redis.codec import decode_change, position_of
from store.redis.connection import RedisConnection
from store.redis.documents import RedisDocuments
from store.redis.exchange import exchange, reply_to
from tests.entries import NOON, entry
from tests.redis_servers import VERSIONS, RedisServer
from tests.redis_stores import KEYS, ServerOf, connected, redis_documents
from tests.store.documents.test_records import HIT, version

A, B, C = EntryId("a"), EntryId("b"), EntryId("c")
LATER = NOON + timedelta(microseconds=1)


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest, redis_server: ServerOf) -> RedisServer:
    return redis_server(request.param)


@pytest.fixture(params=VERSIONS)
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may hold up, fill and kill."""
    server = RedisServer(tmp_path / "redis", request.param).start()
    yield server
    server.stop()


@pytest.fixture
async def documents(server: RedisServer) -> AsyncIterator[RedisDocuments]:
    async with redis_documents(server) as documents:
        yield documents


async def journal(documents: RedisDocuments) -> list[tuple[int, bytes, Change | None]]:
    """Return every record: its position, its origin and the change."""
    read: Any = await documents._connection.ask(lambda client: client.xrange(KEYS.journal))
    return [(position_of(id), f[b"origin"], decode_change(f)) for id, f in read]


async def changes(documents: RedisDocuments) -> list[Change | None]:
    return [change for _, _, change in await journal(documents)]


async def fill(connection: RedisConnection) -> None:
    """Leave the server no room for another entry."""
    await connection.ask(lambda client: client.config_set("maxmemory-policy", "noeviction"))
    await connection.ask(lambda client: client.config_set("maxmemory", "1mb"))


# The journal


async def test_every_change_is_a_record_with_its_origin_in_order(
    documents: RedisDocuments,
) -> None:
    records = documents.records
    await documents.put(entry("a", shared_key="s-1"))
    await documents.approve([A, B])
    await records.quarantine(A, "harbour", NOON, "wrong")
    assert await records.release(A, "harbour")
    await records.forget_tenant("harbour")
    await records.add_version(version(), HIT)
    assert await documents.discard([Version(B, NOON), Version(A, NOON)]) == 1
    put, *rest = await changes(documents)
    assert isinstance(put, Put)
    assert put.stored.held.id == A
    assert rest == [
        Approved((A,)),
        Stopped(A, "harbour"),
        Released(A, "harbour"),
        TenantForgotten("harbour"),
        PolicyAdded(1),
        Removed((A,), purged=False, created=(NOON,)),
    ]
    found = await journal(documents)
    assert {origin for _, origin, _ in found} == {b"one"}
    assert [position for position, _, _ in found] == sorted({p for p, _, _ in found})


async def test_a_quarantine_that_another_one_pushes_out_is_released(server: RedisServer) -> None:
    tenant = 'Zoë, "of the harbour"\n'
    async with redis_documents(server, bounds=Bounds(quarantine=1)) as documents:
        for id in (A, B):
            await documents.records.quarantine(id, tenant, NOON, "feedback")
        assert await documents.records.quarantined() == [(B, tenant)]
        assert await changes(documents) == [
            Stopped(A, tenant),
            Stopped(B, tenant),
            Released(A, tenant),
        ]
        assert {origin for _, origin, _ in await journal(documents)} == {b"one"}


async def test_what_changes_nothing_leaves_no_record(documents: RedisDocuments) -> None:
    await documents.put(entry("a"))
    assert await documents.discard([Version(B, NOON), Version(A, LATER)]) == 0
    assert await documents.approve([A]) == 0
    assert await documents.records.release(A, "") is False
    assert len(await changes(documents)) == 1


async def test_a_purge_is_told_of_entries_that_redis_has_lost_too(
    documents: RedisDocuments,
) -> None:
    await documents.put(entry("a"))
    assert await documents.purge([A, B]) == 1
    assert (await changes(documents))[-1] == Removed((A, B), purged=True)


async def test_an_entry_that_redis_let_expire_is_still_removed_by_a_record(
    documents: RedisDocuments,
) -> None:
    await documents.put(entry("a"))
    await documents._connection.ask(lambda client: client.delete(KEYS.entry(A)))
    assert await documents.discard([Version(A, NOON)]) == 1
    assert (await changes(documents))[-1] == Removed((A,), purged=False, created=(NOON,))


async def test_what_another_replica_stores_while_its_forerunner_is_discarded_stays(
    documents: RedisDocuments,
) -> None:
    await documents.put(entry("a"))
    place = await documents._connection.ask(lambda r: reply_to(r, "ZSCORE", KEYS.entries, A))
    await documents.put(entry("a", body=b"newer", created_at=LATER))  # after the document was gone
    command = discarded_command(KEYS, [(Version(A, NOON), place, 2)], "other")
    await documents._connection.ask(lambda r: reply_to(r, *command))
    assert await documents.count() == 1
    assert (await changes(documents))[-1] == Removed((A,), purged=False, created=(NOON,))


async def test_a_damaged_document_is_discarded_whatever_version_it_was(
    documents: RedisDocuments,
) -> None:
    for damage in (b"no JSON", b"5"):
        await documents.put(entry("a"))
        await documents._connection.ask(lambda r, d=damage: r.hset(KEYS.entry(A), "head", d))  # type: ignore[misc]
        assert await documents.discard([Version(A, NOON)]) == 1
        assert await documents.count() == 0


async def test_a_write_returns_when_its_record_is_applied(server: RedisServer) -> None:
    seen: list[int] = []
    both, applied = asyncio.Event(), asyncio.Event()

    async def wait_for(position: int) -> None:
        seen.append(position)
        if len(seen) == 2:
            both.set()
        await applied.wait()

    async with redis_documents(server, applied=wait_for) as documents:
        writes = [
            asyncio.create_task(documents.put(entry("a"))),
            asyncio.create_task(documents.records.quarantine(A, "", NOON, "wrong")),
        ]
        await both.wait()
        assert not any(write.done() for write in writes)
        assert seen == [position for position, _, _ in await journal(documents)]
        applied.set()
        await asyncio.gather(*writes)


async def test_who_follows_is_told_by_what_reads_the_journal(server: RedisServer) -> None:
    followers: list[Apply] = []
    seen: list[Record] = []
    async with redis_documents(server, follow=followers.append) as documents:
        documents.follow(seen.append)
        assert followers == [seen.append]


async def test_a_change_that_is_in_the_journal_only_can_be_appended(
    documents: RedisDocuments,
) -> None:
    change = Removed((A,), purged=True)
    position = await documents._connection.ask(
        lambda client: append(client, KEYS, change, origin="two")
    )
    assert await journal(documents) == [(position, b"two", change)]


# What vanishes by itself


async def test_redis_forgets_an_entry_by_itself_and_so_does_every_list(
    server: RedisServer,
) -> None:
    async with redis_documents(server, expire_after=timedelta(milliseconds=1)) as documents:
        await documents.put(entry("a", answer_id="n-1"))
        while await documents.get(A) is not None:
            pass
        assert (await documents.browse(Filter(), limit=5)).entries == ()
        assert await documents.count() == 0


async def test_places_without_a_document_are_dropped_when_they_are_read(
    documents: RedisDocuments,
) -> None:
    for id in "abc":
        await documents.put(entry(id, answer_id="n-1"))
    ask = documents._connection.ask
    await ask(lambda client: client.delete(KEYS.entry(C)))
    assert await documents.records.find_answer("harbour", "n-1") == B
    assert await ask(lambda client: client.zcard(KEYS.answer("n-1"))) == 2
    assert [s.held.id async for part in documents.load_all(10) for s in part] == [A, B]
    assert await documents.count() == 2


@pytest.mark.parametrize("listed", ["browse", "load_all"])
async def test_what_is_listed_without_a_document_is_let_go_of_by_all(
    documents: RedisDocuments, listed: str
) -> None:
    """A purge reads such a list. It may have been cut off before, between document and record."""
    for id in "abc":
        await documents.put(entry(id))
    gone = [KEYS.entry(A), KEYS.entry(C)]
    await documents._connection.ask(lambda client: client.delete(*gone))
    for _ in range(2):
        if listed == "browse":
            found = [line.id for line in (await documents.browse(Filter(), limit=5)).entries]
        else:
            found = [s.held.id async for part in documents.load_all(10) for s in part]
        assert found == [B]
    told = [each for each in await changes(documents) if isinstance(each, Removed)]
    assert [(set(each.ids), each.purged) for each in told] == [({A, C}, True)]


async def test_what_was_stored_anew_since_it_was_listed_stays(documents: RedisDocuments) -> None:
    await documents.put(entry("a"))
    command = vanished_command(KEYS, [(A, 1)], "one")
    await documents.put(entry("a", created_at=LATER))
    ask = documents._connection.ask
    assert await ask(lambda client: reply_to(client, *command)) is None
    assert await documents.count() == 1


# Full


async def test_a_full_redis_refuses_puts_and_obeys_removals_and_quarantines(
    own_server: RedisServer,
) -> None:
    async with redis_documents(own_server) as documents:
        records = documents.records
        for id in "ab":
            await documents.put(entry(id))
        await records.quarantine(B, "airport", NOON, "wrong")
        await fill(documents._connection)
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            await documents.put(entry("c"))
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            await documents.ping()
        assert await documents.purge([A]) == 1
        await records.quarantine(B, "", NOON, "wrong")
        assert await records.release(B, "airport")
        await records.add_audit(HIT)
        assert await records.quarantined() == [(B, "")]
        assert (await changes(documents))[-3:] == [
            Removed((A,), purged=True),
            Stopped(B, ""),
            Released(B, "airport"),
        ]
        await documents._connection.ask(lambda client: client.config_set("maxmemory", "0"))
        await documents.put(entry("c"))
        assert await documents.get(C) is not None


# Slow, gone, back


@pytest.mark.serial  # it measures time
async def test_a_held_up_redis_costs_a_get_its_budget_and_then_nothing(
    own_server: RedisServer,
) -> None:
    async with redis_documents(own_server) as documents:
        await documents.put(entry("a"))
        documents._connection.request_seconds = 1.0
        own_server.send(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await documents.get(A)
        assert time.monotonic() - began < 2 * 1.0
        with pytest.raises(StoreUnavailable, match="^Redis does not answer$"):
            await documents.get(A)  # not even tried
        own_server.send(signal.SIGCONT)


@pytest.mark.serial  # it measures time
async def test_writes_to_a_held_up_redis_fail_together_within_one_budget(
    own_server: RedisServer,
) -> None:
    async with redis_documents(own_server) as documents:
        documents._connection.write_seconds = 1.5
        own_server.send(signal.SIGSTOP)
        began = time.monotonic()
        first = asyncio.create_task(documents.put(entry("a")))
        await asyncio.sleep(0)  # it is on its way, and the others wait behind it
        rest = [documents.put(entry(f"e{number}")) for number in range(500)]
        outcomes = await asyncio.gather(first, *rest, return_exceptions=True)
        assert time.monotonic() - began < 2 * 1.5
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        own_server.send(signal.SIGCONT)
        documents._connection.write_seconds = 2.0
        await documents.put(entry("b"))
        assert await documents.get(B) is not None


async def test_a_cancelled_call_hands_its_reply_to_nobody_else(own_server: RedisServer) -> None:
    async with redis_documents(own_server) as documents:
        for id in "ab":
            await documents.put(entry(id))
        own_server.send(signal.SIGSTOP)
        calls = [asyncio.create_task(documents.get(A)) for _ in range(5)]
        await asyncio.wait(calls, timeout=0.05)  # they have been sent
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        own_server.send(signal.SIGCONT)
        for _ in range(10):
            found = await documents.get(B)
            assert found is not None
            assert found.id == B


async def test_a_cancelled_put_hands_its_reply_to_nobody_else(own_server: RedisServer) -> None:
    async with redis_documents(own_server) as documents:
        await documents.put(entry("a"))
        own_server.send(signal.SIGSTOP)
        put = asyncio.create_task(documents.put(entry("b")))
        await asyncio.wait([put], timeout=0.05)  # it has been sent
        put.cancel()
        await asyncio.wait([put])
        later = asyncio.create_task(documents.purge([A, B, C]))
        await asyncio.sleep(0)
        own_server.send(signal.SIGCONT)
        assert await later == 2
        assert put.cancelled()


async def test_a_killed_redis_is_unavailable_and_serves_again_when_it_is_back(
    own_server: RedisServer,
) -> None:
    async with redis_documents(own_server) as documents:
        await documents.put(entry("a"))
        own_server.kill()
        for call in (documents.put(entry("b")), documents.get(A), documents.count()):
            with pytest.raises(StoreUnavailable):
                await call
        own_server.start()
        await documents.put(entry("b"))
        assert await documents.get(B) is not None
        await documents.ping()


async def test_too_many_waiting_writes_are_refused_at_once(server: RedisServer) -> None:
    async with redis_documents(server, max_waiting=3) as documents:
        puts = [documents.put(entry(f"e{number}")) for number in range(5)]
        outcomes = await asyncio.gather(*puts, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[:3]] == [type(None)] * 3
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes[3:])


async def test_a_large_body_keeps_its_turn(documents: RedisDocuments) -> None:
    large = bytes(range(256)) * 2000
    await asyncio.gather(
        documents.put(entry("a", body=large)),
        documents.put(entry("a", body=b"small")),
        documents.put(entry("b", body=b"small")),
        documents.put(entry("b", body=large)),
    )
    a, b = await documents.get(A), await documents.get(B)
    assert a is not None
    assert b is not None
    assert (a.body, b.body) == (b"small", large)


async def test_an_entry_that_is_no_unicode_harms_no_other(documents: RedisDocuments) -> None:
    good, bad = documents.put(entry("a")), documents.put(entry("b", tenant="\ud800"))
    outcomes = await asyncio.gather(good, bad, return_exceptions=True)
    assert outcomes[0] is None
    assert isinstance(outcomes[1], StoreUnavailable)


# Versions, rights


async def test_another_version_is_refused_by_both_numbers(server: RedisServer) -> None:
    async with redis_documents(server) as documents:
        connection = documents._connection
        await connection.ask(lambda client: client.set(KEYS.schema, "2"))
        with pytest.raises(StoreUnavailable, match=r"schema version 2 .* reads version 1"):
            await RedisDocuments.open(connection, keys=KEYS, origin="one")


async def test_what_version_1_wrote_is_read(server: RedisServer) -> None:
    stored = json.loads((Path(__file__).parent / "version_1.json").read_text())
    async with connected(server) as connection:
        await connection.ask(lambda client: client.flushall())
        commands = [[part.encode("latin-1") for part in command] for command in stored]
        await connection.ask(lambda client: exchange(client, commands))
        documents = await RedisDocuments.open(connection, keys=KEYS, origin="one")
        found = await documents.get(A)
        assert found is not None
        assert found.query == "when does ferry a leave?"
        (only,) = [each async for part in documents.load_all(9) for each in part]
        assert only.held.id == A
        assert (await documents.records.latest_version()) == version(number=1)
        assert await documents.records.quarantined() == [(A, "harbour")]
        put, policy, stopped = await changes(documents)
        assert isinstance(put, Put)
        assert (policy, stopped) == (PolicyAdded(1), Stopped(A, "harbour"))
        await documents.aclose()


async def test_a_server_that_would_evict_the_journal_is_warned_of(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(own_server) as connection:
        with caplog.at_level(logging.WARNING, "store"):
            await RedisDocuments.open(connection, keys=KEYS, origin="one")
            assert not caplog.records
            await connection.ask(lambda c: c.config_set("maxmemory-policy", "allkeys-lru"))
            await RedisDocuments.open(connection, keys=KEYS, origin="one")
        assert "allkeys-lru" in caplog.text


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_user_with_rights_to_the_prefix_only_is_enough(
    version: str, tmp_path: Path
) -> None:
    rights = ("on", ">secret", "~{test*", "+@all", "-@admin", "-@dangerous")
    server = RedisServer(tmp_path / "redis", version, "--save", "", "--user", "app", *rights)
    server.start()
    options: dict[str, Any] = {"username": "app", "password": "secret"}
    try:
        async with connected(server, **options) as connection:
            documents = await RedisDocuments.open(connection, keys=KEYS, origin="one")
            await documents.put(entry("a", answer_id="n-1"))
            await documents.records.quarantine(A, "", NOON, "wrong")
            assert await documents.purge([A]) == 1
            await documents.ping()
            await documents.aclose()
        async with connected(server, username="app", password="wrong") as connection:
            with pytest.raises(StoreUnavailable):
                await RedisDocuments.open(connection, keys=KEYS, origin="one")
    finally:
        server.stop()


async def test_a_server_with_a_password_is_used_with_it_only(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", "7", "--save", "", "--requirepass", "secret").start()
    try:
        async with connected(server, password="secret") as connection:
            await (await RedisDocuments.open(connection, keys=KEYS, origin="one")).ping()
        async with connected(server) as connection:
            with pytest.raises(StoreUnavailable):
                await RedisDocuments.open(connection, keys=KEYS, origin="one")
    finally:
        server.stop()


# Records


async def test_each_replica_has_its_own_budgets(documents: RedisDocuments) -> None:
    await documents.records.save_budget("fares", "one")
    other = RedisDocuments(documents._connection, keys=KEYS, origin="two")
    assert await other.records.budgets() == {}
    await other.records.save_budget("fares", "two")
    assert await documents.records.budgets() == {"fares": "one"}
    await other.aclose()


async def test_what_was_learnt_is_shared_and_damage_in_it_is_left_out(
    documents: RedisDocuments,
) -> None:
    for name in ("router", "examples"):
        await documents.records.save_state(name, "one")
    other = RedisDocuments(documents._connection, keys=KEYS, origin="two")
    await other.records.save_state("router", "two")
    assert await documents.records.states() == {"router": "two", "examples": "one"}
    await documents._connection.ask(
        lambda client: client.hset(KEYS.states, "router", '00000000["router","x"]')
    )
    assert await other.records.states() == {"examples": "one"}
    await other.aclose()


async def test_a_damaged_version_is_unavailable_and_not_an_older_one(
    documents: RedisDocuments,
) -> None:
    for _ in range(2):
        await documents.records.add_version(version(), HIT)
    rows = KEYS.common("versions:rows")
    await documents._connection.ask(lambda client: client.hset(rows, "2", "00000000[]"))
    with pytest.raises(StoreUnavailable, match="policy version 2 is damaged"):
        await documents.records.latest_version()
    assert [v.number for v in (await documents.records.versions(limit=9)).items] == [1]
