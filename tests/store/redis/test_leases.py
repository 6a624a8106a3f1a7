"""What leases promise, in memory and in both versions of Redis."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import StoreUnavailable
from store.flight import LeaderGone, LeaderSilent
from store.leases import (
    Closed,
    Following,
    Kind,
    Landed,
    Leading,
    Lease,
    Leases,
    NotShareable,
    Piece,
    Standing,
)
from store.redis.connection import RedisConnection
from store.redis.leases import RedisLeases
from store.redis.outgoing import RedisLease
from tests.fakes_leases import Hub, MemoryLease, MemoryLeases
from tests.redis_servers import VERSIONS, RedisServer

pytestmark = pytest.mark.serial

LEASE, RENEWAL, LANDED = 0.6, 0.15, 0.5  # seconds
LIMIT = 1000  # bytes of one answer
HEAD = Piece(Kind.HEAD, b"{}")


@dataclass
class Replicas:
    """Two of them, and a way to let a leader die."""

    one: Leases
    two: Leases
    kill: Callable[[Lease], None]
    server: RedisServer | None = None
    connection: RedisConnection | None = None


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    server = RedisServer(tmp_path_factory.mktemp("redis"), request.param).start()
    request.addfinalizer(server.stop)
    return server


def _kill(lease: Lease) -> None:
    """Stop renewing, as a process that was killed would; what it held runs out."""
    if isinstance(lease, MemoryLease):
        lease.die()
    else:
        assert isinstance(lease, RedisLease)
        lease.released_at = float("inf")


async def _redis(
    server: RedisServer, stack: AsyncExitStack, request_seconds: float = 2.0
) -> Replicas:
    leases, connections = [], []
    for _ in range(2):
        connection = RedisConnection.to(server.url, request_seconds=request_seconds)
        stack.push_async_callback(connection.aclose)
        each = RedisLeases(
            connection,
            max_buffer=LIMIT,
            lease_seconds=LEASE,
            renewal_seconds=RENEWAL,
            landed_seconds=LANDED,
        )
        stack.push_async_callback(each.aclose)
        leases.append(each)
        connections.append(connection)
    await connections[0].client.flushall()
    return Replicas(leases[0], leases[1], _kill, server, connections[0])


@pytest.fixture(params=["memory", "redis"])
async def replicas(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        if request.param == "redis":
            yield await _redis(server, stack)
        else:
            hub = Hub(max_buffer=LIMIT, landed_seconds=LANDED)
            yield Replicas(MemoryLeases(hub), MemoryLeases(hub), _kill)


@pytest.fixture
async def real(server: RedisServer) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        yield await _redis(server, stack)


def leading(standing: Standing) -> Lease:
    assert isinstance(standing, Leading)
    return standing.lease


async def read(standing: Standing, patience: float | None = None) -> list[Piece]:
    assert isinstance(standing, Following)
    pieces = list[Piece]()
    async with standing.partial as partial:
        while not pieces or pieces[-1].kind in (Kind.HEAD, Kind.CHUNK):
            pieces.append(await partial.next(patience))
    return pieces


async def until_free(leases: Leases, id: str) -> Lease:
    async with asyncio.timeout(5):
        while True:
            try:
                standing = await leases.acquire(id, mind_landed=False)
                if isinstance(standing, Leading):
                    return standing.lease
            except StoreUnavailable:
                pass  # just back
            await asyncio.sleep(0.01)


async def not_to_follow(leases: Leases, id: str) -> Standing:
    async with asyncio.timeout(5):
        while True:
            standing = await leases.acquire(id)
            if not isinstance(standing, Following):
                return standing
            await asyncio.sleep(0.01)


async def test_one_leads_and_the_others_follow(replicas: Replicas) -> None:
    lease = leading(await replicas.one.acquire("k"))
    for leases in (replicas.one, replicas.two):
        standing = await leases.acquire("k")
        assert isinstance(standing, Following)
        assert standing.token == lease.token
    assert isinstance(await replicas.two.acquire("other"), Leading)


async def test_what_is_published_is_read_from_the_beginning_as_it_comes(
    replicas: Replicas,
) -> None:
    lease = leading(await replicas.one.acquire("k"))
    lease.publish(HEAD)
    lease.publish(Piece(Kind.CHUNK, b"\xff\x00one"))
    standing = await replicas.two.acquire("k")
    assert isinstance(standing, Following)
    async with standing.partial as partial, asyncio.timeout(5):
        assert await partial.next() == HEAD
        assert await partial.next() == (Kind.CHUNK, b"\xff\x00one")
        lease.publish(Piece(Kind.CHUNK, b"two"))
        assert await partial.next() == (Kind.CHUNK, b"two")
        lease.publish(Piece(Kind.END))
        assert await partial.next() == (Kind.END, b"")


async def test_a_landed_answer_is_announced_for_a_while_and_its_output_is_not_given_out(
    replicas: Replicas,
) -> None:
    lease = leading(await replicas.one.acquire("k"))
    standing = await replicas.two.acquire("k")
    for piece in (HEAD, Piece(Kind.CHUNK, b"all"), Piece(Kind.END)):
        lease.publish(piece)
    lease.release(landed=True)
    assert b"".join(piece.data for piece in await read(standing)) == b"{}all"
    after = await not_to_follow(replicas.two, "k")
    assert after == Landed(lease.token)
    again = leading(await replicas.two.acquire("k", mind_landed=False))
    assert again.token > lease.token
    again.release(landed=False)
    assert (await until_free(replicas.one, "k")).token > again.token


async def test_an_answer_that_was_not_stored_leaves_the_key_free(replicas: Replicas) -> None:
    lease = leading(await replicas.one.acquire("k"))
    lease.publish(Piece(Kind.FAILED, b"why"))
    lease.release(landed=False)
    assert (await until_free(replicas.two, "k")).token > lease.token


async def test_who_lost_its_lease_can_neither_publish_nor_store(replicas: Replicas) -> None:
    old = leading(await replicas.one.acquire("k"))
    replicas.kill(old)
    new = await until_free(replicas.two, "k")
    assert new.token > old.token
    if isinstance(old, RedisLease):
        old.released_at = None  # it wakes up
    old.publish(Piece(Kind.HEAD, b"old"))
    old.publish(Piece(Kind.CHUNK, b"old"))
    assert not await old.confirm()
    assert await new.confirm()
    standing = await replicas.one.acquire("k")
    new.publish(HEAD)
    new.publish(Piece(Kind.END))
    assert [piece.data for piece in await read(standing)] == [b"{}", b""]
    old.release(landed=True)
    assert isinstance(await replicas.two.acquire("k"), Following)


async def test_followers_learn_that_the_leader_died(replicas: Replicas) -> None:
    lease = leading(await replicas.one.acquire("k"))
    standing = await replicas.two.acquire("k")
    lease.publish(HEAD)
    reading = asyncio.create_task(read(standing))
    await asyncio.sleep(0.05)
    replicas.kill(lease)
    with pytest.raises(LeaderGone):
        await asyncio.wait_for(reading, 5)
    assert (await until_free(replicas.two, "k")).token > lease.token


async def test_followers_learn_that_the_leader_gave_up(replicas: Replicas) -> None:
    lease = leading(await replicas.one.acquire("k"))
    standing = await replicas.two.acquire("k")
    lease.publish(Piece(Kind.GONE))
    lease.release(landed=False)
    with pytest.raises(LeaderGone):
        await asyncio.wait_for(read(standing), 5)


async def test_silence_counts_from_the_leaders_last_sign(replicas: Replicas) -> None:
    leading(await replicas.one.acquire("k"))
    await asyncio.sleep(0.1)
    standing = await replicas.two.acquire("k")
    began = asyncio.get_running_loop().time()
    with pytest.raises(LeaderSilent):
        await read(standing, patience=0.15)
    assert asyncio.get_running_loop().time() - began < 0.14


async def test_too_long_an_answer_is_closed_to_newcomers(replicas: Replicas) -> None:
    lease = leading(await replicas.one.acquire("k"))
    early = await replicas.two.acquire("k")
    lease.publish(HEAD)
    for _ in range(20):
        lease.publish(Piece(Kind.CHUNK, b"x" * 100))
        await asyncio.sleep(0.002)
    late = await not_to_follow(replicas.two, "k")
    assert late == Closed(lease.token)
    with pytest.raises(NotShareable):
        await asyncio.wait_for(read(early), 5)


async def test_a_leader_knows_that_others_follow(replicas: Replicas) -> None:
    lease = leading(await replicas.one.acquire("k"))
    assert not lease.wanted
    standing = await replicas.two.acquire("k")
    assert isinstance(standing, Following)
    async with standing.partial:
        lease.publish(HEAD)
        await standing.partial.next()
        assert await lease.confirm()
        assert lease.wanted


# Redis only


async def test_a_lease_that_is_renewed_outlives_its_time(real: Replicas) -> None:
    lease = leading(await real.one.acquire("k"))
    await asyncio.sleep(2 * LEASE)
    assert isinstance(await real.two.acquire("k"), Following)
    assert await lease.confirm()


async def test_a_server_that_was_emptied_has_no_leader_and_tokens_still_grow(
    real: Replicas,
) -> None:
    assert real.connection is not None
    old = leading(await real.one.acquire("k"))
    await real.connection.client.flushall()
    assert leading(await real.two.acquire("k")).token > old.token
    assert not await old.confirm()
    assert old.lost


async def test_a_full_server_gives_no_lease_and_what_was_published_arrives_later(
    real: Replicas,
) -> None:
    assert real.connection is not None
    client = real.connection.client
    lease = leading(await real.one.acquire("k"))
    standing = await real.two.acquire("k")
    await client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable):
            await real.two.acquire("other")
        for piece in (HEAD, Piece(Kind.CHUNK, b"all"), Piece(Kind.END)):
            lease.publish(piece)
        reading = asyncio.create_task(read(standing))
        await asyncio.sleep(2 * LEASE)
        assert await lease.confirm()
        assert not reading.done()
    finally:
        await client.config_set("maxmemory", 0)
    assert [piece.data for piece in await asyncio.wait_for(reading, 5)] == [b"{}", b"all", b""]


async def test_all_keys_of_a_flight_share_a_slot_and_run_out(real: Replicas) -> None:
    assert real.connection is not None
    client = real.connection.client
    lease = leading(await real.one.acquire("k"))
    lease.publish(HEAD)
    assert await lease.confirm()
    lease.release(landed=True)
    assert await not_to_follow(real.two, "k") == Landed(lease.token)
    keys = [key async for key in client.scan_iter()]
    assert len(keys) == 3
    for key in keys:
        assert key.startswith(b"{nearhit:flight:k}:")
        assert await client.pttl(key) > 0


async def test_a_stopped_server_is_not_waited_for_and_what_it_gave_meanwhile_is_given_back(
    server: RedisServer,
) -> None:
    async with AsyncExitStack() as stack:
        await _with_a_stopped_server(await _redis(server, stack, request_seconds=0.05), server)


async def _with_a_stopped_server(real: Replicas, server: RedisServer) -> None:
    held = await until_free(real.one, "held")
    await until_free(real.two, "other")
    server.send(signal.SIGSTOP)
    try:
        began = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnavailable):
            await real.two.acquire("k")
        with pytest.raises(StoreUnavailable):
            await real.two.acquire("k")
        assert asyncio.get_running_loop().time() - began < 0.3
        assert await held.confirm()  # by the clock: nobody else can lead yet
        await asyncio.sleep(LEASE)
        assert not await held.confirm()
    finally:
        server.send(signal.SIGCONT)
    await until_free(real.one, "k")


@settings(max_examples=25, deadline=None)
@given(chunks=st.lists(st.binary(max_size=60), max_size=15), late=st.booleans())
async def test_followers_read_the_same_bytes_however_they_are_cut(
    server: RedisServer, chunks: list[bytes], late: bool
) -> None:
    async with AsyncExitStack() as stack:
        real = await _redis(server, stack)
        lease = leading(await real.one.acquire("k"))
        standing = await real.two.acquire("k")
        reading = None if late else asyncio.create_task(read(standing))
        for piece in (HEAD, *(Piece(Kind.CHUNK, chunk) for chunk in chunks), Piece(Kind.END)):
            lease.publish(piece)
            await asyncio.sleep(0)
        pieces = await (reading or read(standing))
        assert b"".join(piece.data for piece in pieces) == HEAD.data + b"".join(chunks)
        assert [piece.kind for piece in (pieces[0], pieces[-1])] == [Kind.HEAD, Kind.END]


async def test_a_lease_that_ran_out_while_the_machine_slept_is_not_relied_on(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        real = await _redis(server, stack, request_seconds=0.05)
        held = await until_free(real.one, "held")
        clock = time.clock_gettime

        def after_an_hour(id: int) -> float:  # the monotonic clock stood still
            return clock(id) + (3600 if id == time.CLOCK_BOOTTIME else 0)

        server.send(signal.SIGSTOP)
        try:
            monkeypatch.setattr(time, "clock_gettime", after_an_hour)
            assert not await held.confirm()
        finally:
            server.send(signal.SIGCONT)
