"""Exact hits with SQLite beside Redis: one client, one request after the other, real processes.

Hot answers lie in memory, and no store is asked; with `hot_bytes: 0` every hit fetches its
document. Used by bench.replication.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import yaml

from bench.processes import Server, nearhit_server, python_server, running
from bench.stand import EXACT_HIT, chat_body, without_ttl
from tests.redis_servers import RedisServer

QUESTIONS = 50
REQUESTS = 2_000


async def measure_exact_hits(folder: Path, redis: RedisServer) -> dict[tuple[str, bool], float]:
    """Return the p50 in seconds by (store, whether the answers are hot)."""
    found: dict[tuple[str, bool], float] = {}
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(
            running("fake upstream", python_server("bench.fake_upstream"))
        )
        session = await stack.enter_async_context(aiohttp.ClientSession())
        for store in ("sqlite", redis.url):
            for hot in (True, False):
                name = "sqlite" if store == "sqlite" else "redis"
                config = write_config(folder / f"{name}-{hot}", store, fake.origin, hot=hot)
                async with running(name, nearhit_server(config), "/ready") as nearhit:
                    found[name, hot] = await _p50(session, nearhit)
    return found


def write_config(folder: Path, store: str, origin: str, *, hot: bool) -> Path:
    """Write a configuration with one exact category into a folder of its own; return its path."""
    folder.mkdir(parents=True)
    (folder / "policies.yaml").write_text("categories: [{name: default, mode: exact}]")
    config = folder / "nearhit.yaml"
    upstream = {"name": "fake", "base_url": f"{origin}/v1", "models": ["*"]}
    whole = {
        "data_dir": str(folder / "data"),
        "documents": store,
        "hot_bytes": "64MiB" if hot else 0,
        "policies": "policies.yaml",
        "upstreams": [upstream],
    }
    config.write_text(yaml.safe_dump(whole))
    return config


async def _p50(session: aiohttp.ClientSession, nearhit: Server) -> float:
    url = f"{nearhit.origin}/v1/chat/completions"
    bodies = [chat_body(f"What is in box {number}?") for number in range(QUESTIONS)]
    headers = {"Content-Type": "application/json", "Authorization": "Bearer bench"}
    for body in bodies:
        async with session.post(url, data=body, headers=headers) as answer:
            await answer.read()
    await asyncio.sleep(0.3)
    taken, other = list[float](), 0  # a busy machine may take longer than a request waits for Redis
    for number in range(REQUESTS):
        began = time.perf_counter()
        async with session.post(url, data=bodies[number % QUESTIONS], headers=headers) as answer:
            await answer.read()
            taken.append(time.perf_counter() - began)
            other += without_ttl(answer.headers["cache-status"]) != EXACT_HIT
    assert other <= REQUESTS // 100, f"{other} of {REQUESTS} were no exact hits"
    return statistics.median(taken)
