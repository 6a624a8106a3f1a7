"""A slow upstream bends a category that allows it, everybody can see it, and it comes back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.conftest import Ask, Stage
from tests.fake_upstream import Script
from tests.harness import Proxy

pytestmark = pytest.mark.serial

QUESTION = "How do I descale my kettle with vinegar?"
LOAD = {"latency_target_ms": 50, "threshold_floor": 0.6, "ttl_ceiling": "2d"}


async def effective(stage: Stage, proxy: Proxy) -> dict[str, Any]:
    async with stage.http.get(f"{proxy.url}/admin/api/categories/default") as answer:
        policy: dict[str, Any] = json.loads(await answer.read())
        return policy["effective"]  # type: ignore[no-any-return]


async def until_factor(stage: Stage, proxy: Proxy, *, bent: bool) -> dict[str, Any]:
    """Wait until the category is bent, or back at base, half a minute at the most."""
    for _ in range(300):
        now = await effective(stage, proxy)
        if (now["load_factor"] > 0) is bent:
            return now
        await asyncio.sleep(0.1)
    raise TimeoutError


async def test_a_slow_upstream_lowers_the_threshold_until_it_is_fast_again(
    stage: Stage, ask: Ask
) -> None:
    policy = {"name": "default", "hit_threshold": 0.95, "ttl": "1d", "load": LOAD}
    proxy = await stage.proxy(policy)
    client = stage.openai(proxy)
    assert (await effective(stage, proxy))["hit_threshold"] == 0.95
    stage.upstream.default = Script(delay=0.4)
    done = asyncio.Event()

    async def press(number: int) -> None:
        turn = 0
        while not done.is_set():
            await ask(client, f"What stands on page {turn} of book {number}?", temperature=0.1)
            turn += 1

    pressing = [asyncio.create_task(press(number)) for number in range(8)]
    bent = await until_factor(stage, proxy, bent=True)
    assert 0.6 <= bent["hit_threshold"] < 0.95
    async with stage.http.get(f"{proxy.url}/metrics") as answer:
        metrics = await answer.text()
    assert 'nearhit_load_factor{category="default"} 0.0\n' not in metrics
    assert 'nearhit_effective_threshold{category="default"} 0.95\n' not in metrics
    done.set()
    stage.upstream.default = Script()
    await asyncio.gather(*pressing)
    back = await until_factor(stage, proxy, bent=False)
    assert (back["hit_threshold"], back["ttl"]) == (0.95, "1d")
