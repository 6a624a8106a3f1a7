"""Real proxies as processes, a real Redis, and a fake upstream: what the fault suite breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.e2e.ground import counted
from tests.fake_upstream import FakeUpstream
from tests.harness import ProxyProcess
from tests.redis_servers import RedisServer

HIT = "nearhit; hit"
MAX_STALENESS = 2.0  # seconds
WITHOUT_VECTORS = {"name": "default", "mode": "exact"}


@dataclass(frozen=True, slots=True)
class Told:
    """One answer, read to its end."""

    status: int
    cache: str  # Cache-Status
    body: bytes
    entry: str  # the entry's id, of a hit
    seconds: float

    @property
    def hit(self) -> bool:
        return self.status == 200 and self.cache.startswith(HIT)

    @property
    def call(self) -> str:
        """Which call of the upstream this answer is."""
        return str(json.loads(self.body)["id"])

    @property
    def text(self) -> str:
        """What it says."""
        return str(json.loads(self.body)["choices"][0]["message"]["content"])


@dataclass
class Site:
    """All that runs. Questions are asked of a replica by its number."""

    upstream: FakeUpstream
    encoder: FakeUpstream
    http: aiohttp.ClientSession
    directory: Path
    stack: AsyncExitStack
    proxies: list[ProxyProcess] = field(default_factory=list)
    refused: list[Told] = field(default_factory=list)  # a status of 500 or more

    def proxy(
        self, documents: str = "sqlite", *, within: Sequence[str] = (), **config: Any
    ) -> ProxyProcess:
        """Start a proxy with a data directory of its own; it is not ready yet."""
        number = len(self.proxies)
        where = self.directory / f"proxy{number}"
        where.mkdir()
        rules = config.pop("categories", [WITHOUT_VECTORS])
        (where / "policies.yaml").write_text(yaml.safe_dump({"categories": rules}))
        whole = {
            "data_dir": str(where / "data"),
            "documents": documents,
            "policies": str(where / "policies.yaml"),
            "upstreams": [{"name": "fake", "base_url": self.upstream.base_url}],
            "encoder": {"base_url": self.encoder.base_url, "model": "e"},
            "replication": {"max_staleness": MAX_STALENESS},
            **config,
        }
        (where / "nearhit.yaml").write_text(yaml.safe_dump(whole))
        process = ProxyProcess("--config", str(where / "nearhit.yaml"), within=within)
        self.stack.callback(process.close)
        self.proxies.append(process)
        return process

    def data(self, replica: int) -> Path:
        """Return a proxy's data directory."""
        return self.directory / f"proxy{replica}" / "data"

    async def redis(self, *options: str, version: str = "7") -> RedisServer:
        """Start a Redis."""
        server = RedisServer(self.directory / "redis", version, *options)
        await asyncio.to_thread(server.start)
        self.stack.callback(server.stop)
        return server

    async def ready(self) -> None:
        """Wait until all proxies are ready."""
        await asyncio.gather(*(proxy.ready(30) for proxy in self.proxies))

    async def ask(
        self, replica: int, question: str, *, stored_only: bool = False, tag: str = ""
    ) -> Told:
        """Ask; `stored_only` asks for nothing but what is stored. Note what is refused."""
        headers = {"X-Nearhit-Tags": tag} if tag else {}
        if stored_only:
            headers["Cache-Control"] = "only-if-cached"
        body = {"model": "m", "messages": [{"role": "user", "content": question}]}
        url = f"{self.proxies[replica].proxy.base_url}/chat/completions"
        clock = asyncio.get_running_loop().time
        began = clock()
        async with self.http.post(url, json=body, headers=headers) as answer:
            text = await answer.read()
            told = Told(
                answer.status,
                answer.headers.get("cache-status", ""),
                text,
                answer.headers.get("x-nearhit-entry", ""),
                clock() - began,
            )
        if told.status == 200:  # the fake echoes what it is asked
            assert question in told.text, f"{question}: {told.text}"
        if told.status >= 500 and not (stored_only and told.status == 504):
            self.refused.append(told)
        return told

    async def hit(self, replica: int, question: str) -> str:
        """Return which call of the upstream is served from the cache; "" if none is."""
        told = await self.ask(replica, question, stored_only=True)
        return told.call if told.hit else ""

    async def until_hit(self, replica: int, question: str, seconds: float) -> str:
        """Return the same as soon as there is one; raise TimeoutError."""
        async with asyncio.timeout(seconds):
            while True:
                call = await self.hit(replica, question)
                if call:
                    return call
                await asyncio.sleep(0.01)

    async def put(self, replica: int, question: str) -> Told:
        """Ask what was not asked before, and wait until the answer hits there."""
        told = await self.ask(replica, question)
        assert told.status == 200
        await self.until_hit(replica, question, 2)
        return told

    async def admin(self, replica: int, path: str, order: Any, method: str = "POST") -> int:
        """Have something done by the admin API; return its status once that has arrived."""
        url = f"{self.proxies[replica].proxy.url}/admin/api/{path}"
        async with self.http.request(method, url, json=order) as answer:
            await answer.read()
            return answer.status

    async def purge(self, replica: int, **selector: Any) -> int:
        """Purge; return the status once that has arrived."""
        return await self.admin(replica, "purge", selector)

    async def readiness(self, replica: int) -> tuple[int, dict[str, str]]:
        """Return the status of /ready, and what it says is failing."""
        async with self.http.get(f"{self.proxies[replica].proxy.url}/ready") as answer:
            return answer.status, (await answer.json())["failing"]

    async def faults(self, replica: int, part: str) -> int:
        """Return how many faults of a part were counted."""
        found = await counted(
            self.http, self.proxies[replica].proxy, "nearhit_faults_total", "part"
        )
        return found.get(part, 0)

    async def failing(self, replica: int, part: str, seconds: float) -> None:
        """Wait until /ready says 503 and names the part; raise TimeoutError."""
        async with asyncio.timeout(seconds):
            while True:
                status, failing = await self.readiness(replica)
                if part in failing:
                    break
                await asyncio.sleep(0.02)
        assert status == 503

    async def converge(self, questions: Iterable[str], seconds: float = 10) -> dict[str, str]:
        """End a test: all are ready, nobody was refused, and all replicas answer the same.

        Return which call answers each question, "" for a miss, as all replicas have it.
        """
        await self.ready()
        assert not self.refused, self.refused[:3]
        asked = list(questions)
        async with asyncio.timeout(seconds):
            while True:
                first = await self.answers(0, asked)
                others = [await self.answers(n, asked) for n in range(1, len(self.proxies))]
                if all(other == first for other in others):
                    return first
                await asyncio.sleep(0.1)

    async def answers(self, replica: int, questions: list[str]) -> dict[str, str]:
        """Return which call of the upstream answers each question from the cache, "" for none."""
        found: dict[str, str] = {}
        waiting = iter(questions)

        async def ask() -> None:
            for question in waiting:
                found[question] = await self.hit(replica, question)

        await asyncio.gather(*(ask() for _ in range(8)))
        return found


@asynccontextmanager
async def site_in(directory: Path) -> AsyncIterator[Site]:
    """Start what is needed but for proxies and Redis; stop all of it afterwards."""
    async with (
        FakeUpstream() as upstream,
        FakeUpstream("encoder") as encoder,
        aiohttp.ClientSession() as http,
        AsyncExitStack() as stack,
    ):
        yield Site(upstream, encoder, http, directory, stack)
