"""Whichever of two replicas is told: feedback finds who served, and no edit is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.ground import fresh_question
from tests.e2e.test_encoder_faults import FakeEncoder
from tests.fake_upstream import FakeUpstream
from tests.harness import Proxy, digest, proxy_running, settings_for
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.serial

KEYS: dict[str, Any] = {
    "keys": [
        {"sha256": digest("acme"), "tenant": "acme"},
        {"sha256": digest("zeta"), "tenant": "zeta"},
        {"sha256": digest("root"), "role": "admin"},
    ]
}


@dataclass
class Fleet:
    """Two replicas of one Redis."""

    http: aiohttp.ClientSession
    proxies: list[Proxy]

    async def ask(self, replica: int, question: str) -> tuple[bool, str]:
        """Ask as acme; return whether it hit, and the request's id."""
        body = {"model": "m", "messages": [{"role": "user", "content": question}]}
        url = f"{self.proxies[replica].base_url}/chat/completions"
        async with self.http.post(url, json=body, headers=_bearer("acme")) as answer:
            await answer.read()
            hit = answer.headers["cache-status"].startswith("nearhit; hit")
            return hit, answer.headers["x-request-id"]

    async def tell(self, replica: int, request_id: str, key: str = "acme") -> int:
        """Say that an answer was wrong."""
        body = {"response_id": request_id, "verdict": "wrong"}
        url = f"{self.proxies[replica].url}/nearhit/feedback"
        async with self.http.post(url, json=body, headers=_bearer(key)) as answer:
            await answer.read()
            return answer.status

    async def pairs(self) -> list[dict[str, Any]]:
        url = f"{self.proxies[0].url}/admin/api/pairs"
        async with self.http.get(url, headers=_bearer("root")) as answer:
            rows: list[dict[str, Any]] = (await answer.json())["pairs"]
            return rows


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        redis = RedisServer(tmp_path / "redis").start()
        stack.callback(redis.stop)
        upstream = await stack.enter_async_context(FakeUpstream())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        proxies = []
        for replica in range(2):
            settings = settings_for(
                tmp_path / f"data{replica}",
                upstream.base_url,
                documents=redis.url,
                redis={"request_timeout": "1s"},  # machines that run tests are busy
                auth=KEYS,
            )
            running = proxy_running(settings, encoder=FakeEncoder())
            proxies.append(await stack.enter_async_context(running))
        yield Fleet(http, proxies)


async def test_feedback_reaches_the_replica_that_served(fleet: Fleet) -> None:
    question = fresh_question()
    await fleet.ask(0, question)
    await asyncio.sleep(0.1)  # the contract's time until a stored answer hits
    hit, served = await fleet.ask(0, question)
    assert hit
    assert await fleet.tell(1, served, key="zeta") == 404
    assert (await fleet.ask(0, question))[0]
    assert await fleet.tell(1, served) == 202
    for replica in (0, 1):
        assert not (await fleet.ask(replica, question))[0]
    (pair,) = await fleet.pairs()
    assert (pair["tenant"], pair["query"], pair["label"]) == ("acme", question, 0)


async def test_what_no_replica_served_is_unknown(fleet: Fleet) -> None:
    assert await fleet.tell(1, "req-unheard-of") == 404


async def test_two_admins_who_edit_at_two_replicas_at_once_lose_nothing(fleet: Fleet) -> None:
    async def put(replica: int, name: str) -> int:
        url = f"{fleet.proxies[replica].url}/admin/api/categories/{name}"
        async with fleet.http.put(url, json={"ttl": "5m"}, headers=_bearer("root")) as answer:
            await answer.read()
            return answer.status

    async def names(replica: int) -> set[str]:
        url = f"{fleet.proxies[replica].url}/admin/api/categories"
        async with fleet.http.get(url, headers=_bearer("root")) as answer:
            return {category["name"] for category in (await answer.json())["categories"]}

    for edit in range(5):
        both = await asyncio.gather(put(0, f"a{edit}"), put(1, f"b{edit}"))
        assert list(both) == [200, 200]
    all_of_them = {"default"} | {f"{side}{edit}" for side in "ab" for edit in range(5)}
    async with asyncio.timeout(10):
        for replica in (0, 1):
            while await names(replica) != all_of_them:
                pass
