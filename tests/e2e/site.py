"""One organisation's proxy as a process of its own, with its customers and its operator."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import yaml

from tests.e2e.audiences import Asked
from tests.harness import ROOT, ProxyProcess, digest

CUSTOMER, VISITOR, OPERATOR = "sk-customer", "sk-visitor", "sk-operator"
SYSTEM = "You help."
LOOK_ONLY = {"Cache-Control": "no-store"}  # looked up, not stored


@dataclass(frozen=True, slots=True)
class Served:
    """How a question was answered, as far as the test looks at it."""

    status: str  # Cache-Status' last words: exact, semantic; fwd=... for what was forwarded
    text: str
    request: str  # its id
    similarity: float | None  # of a hit, as the next one
    entry: str | None


class Site:
    """A proxy that serves one audience."""

    def __init__(self, name: str, directory: Path, upstream: str, policy: dict[str, Any]) -> None:
        """`policy` is that of its one category, which is called `name`."""
        self.name = name
        directory.mkdir(parents=True)
        self.data_dir, self.config = directory / "data", directory / "nearhit.yaml"
        self.process = ProxyProcess("--config", str(self.config), start=False)
        own = {"name": name, "match": [{"regex": "."}], **policy}
        book = {"categories": [{"name": "default"}, own]}
        (directory / "policies.yaml").write_text(yaml.safe_dump(book))
        keys = [
            {"sha256": digest(CUSTOMER), "tenant": "customers"},
            {"sha256": digest(VISITOR), "tenant": "visitors"},
            {"sha256": digest(OPERATOR), "role": "admin"},
        ]
        settings = {
            "server": {"host": "127.0.0.1", "port": self.process.port},
            "data_dir": str(self.data_dir),
            "upstreams": [{"name": "fake", "base_url": upstream, "models": ["*"]}],
            "policies": str(directory / "policies.yaml"),
            "auth": {"keys": keys},
            "feedback": {"per_minute": 10_000},
            "checkpoints": {"min_pairs": 30},
            "lookup_gate": False,  # the fake upstream is so quick that no lookup would pay
        }
        self.config.write_text(yaml.safe_dump(settings))

    @property
    def node_config(self) -> dict[str, str]:
        """What the SuperNode beside this proxy is told."""
        return {"proxy": self.process.proxy.url, "proxy-key-env": "NEARHIT_ADMIN_KEY"}

    def client(self, key: str) -> openai.AsyncOpenAI:
        """Return an official client that does not retry."""
        return openai.AsyncOpenAI(base_url=self.process.proxy.base_url, api_key=key, max_retries=0)

    async def live(self, asked: Sequence[Asked]) -> None:
        """Have customers ask, and say of each answer from the cache whether it was right.

        Each conversation has a system prompt of its own, so nobody is served another one's answer
        and the pairs of questions are those of `asked`.
        """
        url = f"{self.process.proxy.url}/nearhit/feedback"
        headers = {"Authorization": f"Bearer {CUSTOMER}"}
        async with self.client(CUSTOMER) as client, aiohttp.ClientSession(headers=headers) as http:
            for number, (stored, same, different) in enumerate(asked):
                system = f"You speak with customer {number}."
                await ask(client, stored, {}, system)
                for question, verdict in ((same, "right"), (different, "wrong")):
                    served = await hit(client, question, system)
                    said = {"response_id": served.request, "verdict": verdict}
                    async with http.post(url, json=said) as answer:
                        assert answer.status == 202, await answer.text()

    async def admin(self, path: str) -> dict[str, Any]:
        """Return what GET /admin/api/{path} answers."""
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        url = f"{self.process.proxy.url}/admin/api/{path}"
        async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
            assert answer.status == 200
            told: dict[str, Any] = await answer.json()
            return told

    async def forget_customers(self) -> None:
        """Remove what the customers asked, and what they said of it."""
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        url = f"{self.process.proxy.url}/admin/api/purge"
        async with (
            aiohttp.ClientSession() as http,
            http.post(url, headers=headers, json={"tenant": "customers"}) as answer,
        ):
            assert answer.status == 200

    async def standing(self, id: str) -> dict[str, Any] | None:
        """Return what the admin API says of a checkpoint; None if it is not listed."""
        listed = (await self.admin("checkpoints"))["checkpoints"]
        return next((row for row in listed if row["id"] == id), None)

    async def in_force(self) -> str:
        """Return the checkpoint that serves, as the metrics tell it."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.process.proxy.url}/metrics") as answer,
        ):
            (line,) = (
                line
                for line in (await answer.text()).splitlines()
                if line.startswith("nearhit_checkpoint_info{") and line.endswith(" 1.0")
            )
        return line.partition('checkpoint="')[2].partition('"')[0]

    async def nearhit(self, *words: str) -> tuple[int, Any, str]:
        """Run `nearhit checkpoints ...` as the operator; return exit status, JSON, stderr."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("NEARHIT_", "OPENAI_"))}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy.cli", "checkpoints", *words),
            *("--config", str(self.config), "--json"),
            cwd=ROOT,
            env={**clean, "NEARHIT_ADMIN_KEY": OPERATOR},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, words_said = await process.communicate()
        assert process.returncode is not None
        return process.returncode, json.loads(out) if out else None, words_said.decode()


async def ask(
    client: openai.AsyncOpenAI, question: str, headers: dict[str, str], system: str = SYSTEM
) -> Served:
    """Ask a question with the official SDK."""
    raw = await client.chat.completions.with_raw_response.create(
        model="gpt-4o-mini",
        messages=[{"role": "system", "content": system}, {"role": "user", "content": question}],
        extra_headers=headers,
    )
    status = raw.headers["cache-status"].removeprefix("nearhit; ")
    if status.startswith("hit; "):
        status = status.rpartition("detail=")[2]
    similarity = raw.headers.get("x-nearhit-similarity")
    return Served(
        status,
        raw.parse().choices[0].message.content or "",
        raw.headers["x-request-id"],
        None if similarity is None else float(similarity),
        raw.headers.get("x-nearhit-entry"),
    )


async def hit(client: openai.AsyncOpenAI, question: str, system: str) -> Served:
    """Ask until the answer comes by meaning: what was just stored takes a moment to be found."""
    async with asyncio.timeout(30):
        while (served := await ask(client, question, LOOK_ONLY, system)).status != "semantic":  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.02)
    return served


@asynccontextmanager
async def running(*sites: Site) -> AsyncIterator[None]:
    """Start the proxies of these sites, and end them afterwards."""
    try:
        for site in sites:
            site.process.start()
        for site in sites:
            await site.process.ready()
        yield
    finally:
        for site in sites:
            site.process.close()
