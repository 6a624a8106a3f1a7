"""One proxy in front of the fake upstream for a whole module of tests, and ways to ask it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai

from tests.fake_upstream import FakeUpstream
from tests.harness import Proxy, proxy_running, settings_for

MISS = "nearhit; fwd=miss"
_numbers = itertools.count()


def fresh_question() -> str:
    """Return a question that no test has asked before."""
    return f"What is in box {next(_numbers)} of the shelf?"


@dataclass
class Ground:
    """One proxy with default settings, but at most one further try, and its clients."""

    upstream: FakeUpstream
    proxy: Proxy
    http: aiohttp.ClientSession
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic

    async def chat(self, question: str, **more: Any) -> tuple[int, str, bytes]:
        """Ask without an SDK; return status, Cache-Status and body once it is read to its end."""
        return await chat(self.http, self.proxy, question, **more)

    async def admissions(self) -> dict[str, int]:
        """Return how many answers were offered to the cache so far, by outcome."""
        return await counted(self.http, self.proxy, "nearhit_admissions_total", "outcome")

    async def admissions_after(self, before: dict[str, int], more: int) -> dict[str, int]:
        """Return the same once so many more were decided on."""
        async with asyncio.timeout(5):
            now = await self.admissions()
            while sum(now.values()) < sum(before.values()) + more:
                now = await self.admissions()
        return now

    async def hits(self, question: str, **more: Any) -> bool:
        """Whether a question is answered from the cache, once its answer must be visible."""
        await asyncio.sleep(0.1)
        return (await self.chat(question, **more))[1].startswith("nearhit; hit")


async def chat(
    http: aiohttp.ClientSession,
    proxy: Proxy,
    question: str,
    *,
    key: str = "sk-test",
    **more: Any,
) -> tuple[int, str, bytes]:
    """Ask without an SDK; return status, Cache-Status and body once it is read to its end."""
    body = {"model": "m", "messages": [{"role": "user", "content": question}], **more}
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{proxy.base_url}/chat/completions"
    async with http.post(url, json=body, headers=headers) as answer:
        told = await answer.read()
        return answer.status, answer.headers.get("cache-status", ""), told


async def counted(
    http: aiohttp.ClientSession, proxy: Proxy, metric: str, label: str
) -> dict[str, int]:
    """Return a counter's values by one of its labels."""
    async with http.get(f"{proxy.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    found: dict[str, int] = {}
    for line in lines:
        if line.startswith(metric + "{"):
            name = line.partition(f'{label}="')[2].partition('"')[0]
            found[name] = found.get(name, 0) + int(float(line.rpartition(" ")[2]))
    return found


@asynccontextmanager
async def standing(data_dir: Path) -> AsyncIterator[Ground]:
    """Start it all, and stop it again."""
    async with FakeUpstream() as upstream:
        specs = [{"name": "fake", "base_url": upstream.base_url, "max_retries": 1}]
        settings = settings_for(data_dir, "", upstreams=specs)
        async with (
            proxy_running(settings) as proxy,
            aiohttp.ClientSession() as http,
            openai.AsyncOpenAI(base_url=proxy.base_url, api_key="k", max_retries=0) as one,
            anthropic.AsyncAnthropic(base_url=proxy.url, api_key="k", max_retries=0) as other,
        ):
            yield Ground(upstream, proxy, http, one, other)
