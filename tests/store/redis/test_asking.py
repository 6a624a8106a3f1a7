"""Replicas ask each other for what each keeps in memory only."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from store.errors import StoreUnavailable
from store.redis.asking import MAX_BYTES, Asking
from tests.redis_servers import VERSIONS, RedisServer
from tests.redis_stores import KEYS, connected

pytestmark = pytest.mark.serial

Had = dict[tuple[str, str], bytes]


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", request.param).start()
    yield server
    server.stop()


@asynccontextmanager
async def replicas(
    server: RedisServer, *had: Had, seconds: float = 2.0
) -> AsyncIterator[list[Asking]]:
    """Yield one replica for each of what they have, all of them known to the others."""
    async with AsyncExitStack() as stack:
        started = list[Asking]()
        for number, has in enumerate(had):
            connection = await stack.enter_async_context(connected(server))
            name = f"replica{number}"
            await connection.client.hset(KEYS.replicas, name, "0-0 0")
            asking = Asking(connection, KEYS, name, seconds=seconds)
            stack.push_async_callback(asking.aclose)
            await asking.start(lambda tenant, id, has=has: has.get((tenant, id)))  # type: ignore[misc]
            started.append(asking)
        yield started


async def test_whoever_has_it_answers(server: RedisServer) -> None:
    had: list[Had] = [{}, {("acme", "r1"): b"one"}, {("acme", "r2"): b"two words"}]
    async with replicas(server, *had) as (first, second, third):
        assert await first.ask("acme", "r1") == b"one"
        assert await first.ask("acme", "r2") == b"two words"
        assert await third.ask("acme", "r1") == b"one"
        assert await second.ask("acme", "r1") is None  # others have not, and oneself is not asked


async def test_another_tenants_is_not_told(server: RedisServer) -> None:
    async with replicas(server, {}, {("acme", "r1"): b"secret"}) as (first, _):
        for tenant in ("zeta", "", "acme ", "ACME"):
            assert await first.ask(tenant, "r1") is None


async def test_what_nobody_has_is_known_as_soon_as_all_have_said_so(server: RedisServer) -> None:
    async with replicas(server, {}, {}, {}, seconds=30) as (first, *_):
        assert await asyncio.wait_for(first.ask("acme", "r1"), 10) is None


async def test_alone_nobody_is_waited_for(server: RedisServer) -> None:
    async with replicas(server, {("acme", "r1"): b"mine"}, seconds=30) as (only,):
        assert await asyncio.wait_for(only.ask("acme", "r1"), 10) is None


async def test_a_replica_that_is_gone_costs_the_budget_and_no_more(server: RedisServer) -> None:
    async with replicas(server, {}, {}, seconds=1.5) as (first, second):
        await second.aclose()
        began = time.monotonic()
        assert await first.ask("acme", "r1") is None
        assert time.monotonic() - began < 2 * 1.5


async def test_an_answer_that_is_too_long_is_not_given(server: RedisServer) -> None:
    had = {("acme", "r1"): b"x" * (MAX_BYTES + 1), ("acme", "r2"): b"x" * MAX_BYTES}
    async with replicas(server, {}, had) as (first, _):
        assert await first.ask("acme", "r1") is None
        assert await first.ask("acme", "r2") == b"x" * MAX_BYTES


async def test_many_questions_at_once_get_their_own_answers(server: RedisServer) -> None:
    had = {("acme", f"r{n}"): b"%d" % n for n in range(50)}
    async with replicas(server, {}, had, seconds=20) as (first, _):
        told = await asyncio.gather(*(first.ask("acme", f"r{n}") for n in range(50)))
        assert told == [b"%d" % n for n in range(50)]


async def test_a_full_redis_does_not_keep_them_from_asking(server: RedisServer) -> None:
    async with replicas(server, {}, {("acme", "r1"): b"one"}) as (first, _):
        await first._connection.client.config_set("maxmemory", "1")
        assert await first.ask("acme", "r1") == b"one"


async def test_nothing_is_left_in_redis_for_long(server: RedisServer) -> None:
    async with replicas(server, {}, {("acme", "r1"): b"one"}) as (first, _):
        await first.ask("acme", "r1")
        client = first._connection.client
        for key in await client.keys("*"):
            assert key == KEYS.replicas.encode() or 0 < await client.ttl(key) <= 10


async def test_a_redis_that_does_not_answer_costs_the_budget_and_no_more(
    server: RedisServer,
) -> None:
    async with replicas(server, {}, {("acme", "r1"): b"one"}, seconds=1.5) as (first, _):
        server.send(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert await first.ask("acme", "r1") is None
            assert time.monotonic() - began < 2 * 1.5
        finally:
            server.send(signal.SIGCONT)


async def test_without_redis_it_is_said(server: RedisServer) -> None:
    async with replicas(server, {}, {}) as (first, _):
        server.kill()
        with pytest.raises(StoreUnavailable):
            await first.ask("acme", "r1")
