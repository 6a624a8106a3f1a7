"""Two proxies on one real Redis: what one learns all know, what one forgets nobody serves."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from tests.e2e.ground import MISS, chat, fresh_question
from tests.e2e.test_encoder_faults import FakeEncoder
from tests.fake_upstream import FakeUpstream
from tests.harness import Proxy, policies, proxy_running, settings_for
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.serial

STALENESS = 0.6  # seconds
EXACT = "nearhit; hit"


@dataclass
class Pair:
    """Two proxies, and who they share what they store with."""

    upstream: FakeUpstream
    redis: RedisServer
    http: aiohttp.ClientSession
    proxies: list[Proxy]

    async def ask(self, replica: int, question: str, **more: Any) -> str:
        """Return the Cache-Status of an answer; it must be one."""
        status, cache, body = await chat(self.http, self.proxies[replica], question, **more)
        assert status == 200, body
        return cache

    async def hits(self, replica: int, question: str) -> bool:
        return (await self.ask(replica, question)).startswith(EXACT)

    async def hits_soon(self, replica: int, question: str, seconds: float = 3.0) -> None:
        """Wait until a question hits; only-if-cached, so that asking stores nothing."""
        await soon(lambda: self.is_cached(replica, question), seconds)

    async def is_cached(self, replica: int, question: str) -> bool:
        body = {"model": "m", "messages": [{"role": "user", "content": question}]}
        headers = {"Authorization": "Bearer sk-test", "Cache-Control": "only-if-cached"}
        url = f"{self.proxies[replica].base_url}/chat/completions"
        async with self.http.post(url, json=body, headers=headers) as answer:
            return answer.status == 200

    async def admin(self, replica: int, method: str, path: str, body: Any = None) -> Any:
        url = f"{self.proxies[replica].url}/admin/api{path}"
        async with self.http.request(method, url, json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def ready(self, replica: int) -> dict[str, Any]:
        async with self.http.get(f"{self.proxies[replica].url}/ready") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def is_fresh(self, replica: int) -> bool:
        return "journal" in (await self.ready(replica))["ok"]


async def soon(holds: Callable[[], Awaitable[bool]], seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        server = RedisServer(tmp_path / "redis", "8").start()  # the fault suite has the other, too
        stack.callback(server.stop)
        upstream = await stack.enter_async_context(FakeUpstream())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        proxies = []
        for replica in range(2):
            settings = settings_for(
                tmp_path / f"data{replica}",
                upstream.base_url,
                documents=server.url,
                replication={"max_staleness": STALENESS},
            )
            running = proxy_running(settings, policies({"name": "default"}), encoder=FakeEncoder())
            proxies.append(await stack.enter_async_context(running))
        yield Pair(upstream, server, http, proxies)


async def test_what_one_has_stored_hits_on_the_other_within_a_second(pair: Pair) -> None:
    question = fresh_question()
    assert await pair.ask(0, question) == MISS
    await pair.hits_soon(1, question, 1.0)


async def test_a_purge_holds_everywhere_when_it_is_acknowledged(pair: Pair) -> None:
    questions = [fresh_question() for _ in range(5)]
    for question in questions:
        await pair.ask(0, question)
        await pair.hits_soon(1, question)
    began = time.monotonic()
    done = await pair.admin(1, "POST", "/purge", {"all": True})
    assert time.monotonic() - began < STALENESS  # nobody is out of reach
    assert done == {"matched": 5, "purged": 5}
    for question in questions:
        assert not await pair.is_cached(0, question)
        assert not await pair.is_cached(1, question)


async def test_a_quarantine_holds_everywhere_when_it_is_acknowledged(pair: Pair) -> None:
    question = fresh_question()
    await pair.ask(0, question)
    await pair.hits_soon(1, question)
    (entry,) = (await pair.admin(1, "GET", "/entries"))["entries"]
    await pair.admin(1, "POST", f"/entries/{entry['id']}/quarantine", {})
    assert not await pair.is_cached(0, question)
    await pair.admin(0, "POST", f"/entries/{entry['id']}/quarantine", {"lift": True})
    await pair.hits_soon(1, question)


async def test_a_policy_that_is_edited_at_one_is_in_force_at_the_other(pair: Pair) -> None:
    await pair.admin(0, "PUT", "/categories/recipes", {"ttl": "5m"})

    async def known() -> bool:
        listed = (await pair.admin(1, "GET", "/categories"))["categories"]
        return any(category["name"] == "recipes" for category in listed)

    await soon(known)


async def test_while_redis_hears_nothing_everybody_is_answered_by_the_upstream(
    pair: Pair,
) -> None:
    question = fresh_question()
    await pair.ask(0, question)
    await pair.hits_soon(1, question)
    pair.redis.send(signal.SIGSTOP)
    await asyncio.sleep(STALENESS + 0.1)
    for replica in range(2):
        began = time.monotonic()
        assert await pair.ask(replica, question) == "nearhit; fwd=bypass; detail=fault"
        assert time.monotonic() - began < 0.5
        assert "journal" in (await pair.ready(replica))["failing"]
    pair.redis.send(signal.SIGCONT)
    for replica in range(2):
        await pair.hits_soon(replica, question)
        assert (await pair.ready(replica))["failing"] == {}


async def test_an_emptied_redis_forgets_and_goes_on(pair: Pair) -> None:
    old, new = fresh_question(), fresh_question()
    await pair.ask(0, old)
    await pair.hits_soon(1, old)
    pair.redis.kill()
    pair.redis.start()
    for replica in range(2):

        async def well(replica: int = replica) -> bool:
            return not (await pair.ready(replica))["failing"]

        async def forgotten(replica: int = replica) -> bool:
            return not await pair.is_cached(replica, old)

        await soon(forgotten, 10)  # till it is noticed, memory is right about what it holds
        await soon(well, 10)
    await pair.ask(1, new)
    await pair.hits_soon(0, new)
    assert [c["name"] for c in (await pair.admin(0, "GET", "/categories"))["categories"]] == [
        "default"
    ]


async def test_what_was_quarantined_stays_so_if_redis_forgets_while_nobody_runs(
    tmp_path: Path,
) -> None:
    question = fresh_question()
    async with AsyncExitStack() as stack:
        server = RedisServer(tmp_path / "redis", "7", "--save", "", "--dbfilename", "dump.rdb")
        stack.callback(server.start().stop)
        upstream = await stack.enter_async_context(FakeUpstream())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        settings = settings_for(tmp_path / "data", upstream.base_url, documents=server.url)

        def running() -> AbstractAsyncContextManager[Proxy]:
            return proxy_running(settings, policies({"name": "default"}), encoder=FakeEncoder())

        async with running() as proxy, Redis.from_url(server.url) as client:
            site = Pair(upstream, server, http, [proxy])
            await soon(lambda: site.is_fresh(0))
            assert await site.ask(0, question) == MISS
            await client.save()
            (entry,) = (await site.admin(0, "GET", "/entries"))["entries"]
            await site.admin(0, "POST", f"/entries/{entry['id']}/quarantine", {})
            assert not await site.is_cached(0, question)
        server.kill()
        server.start()  # as of before the quarantine
        async with running() as proxy:
            site = Pair(upstream, server, http, [proxy])
            await soon(lambda: site.is_fresh(0))
            assert not await site.is_cached(0, question)
            (again,) = (await site.admin(0, "GET", "/entries"))["entries"]
            assert again["id"] == entry["id"]  # it is there, and stopped
