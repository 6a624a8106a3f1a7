"""The stand of one run: upstreams, floors and a filled Nearhit, all on loopback."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

from bench.fake_upstream import CHAT
from bench.processes import Server, nearhit_server, python_server, running
from bench.questions import Supply, rewordings, stored_question, subjects
from embed.encoder import Encoder
from store.policy_file import load_policies, policy_as_data

MODEL = "bench"
SLOW_MODEL = "bench-slow"  # answered by the upstream that takes its time
SLOW_PACE = ("--first-token-ms", "20", "--token-ms", "2")
GUIDE = "You answer questions about towns."  # one system prompt: one partition
FILL_WORKERS = 32
FILL_LIMIT = 300.0  # seconds
VISIBLE_LIMIT = 10.0  # seconds until what was stored must hit
QUIET = 0.3  # seconds without a call after which no more are under way
QUIET_LIMIT = 10.0
STORED_LIMIT = 5.0  # seconds until an answer must hit
READY_LIMIT = 120.0

EXACT_HIT = "nearhit; hit; detail=exact"
SEMANTIC_HIT = "nearhit; hit; detail=semantic"
MISS = "nearhit; fwd=miss"


class StandFailed(Exception):
    """The stand is not what the cases need; the message says what differs."""


def say(line: str) -> None:
    """Write a progress line."""
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def chat_body(question: str, system: str = GUIDE, stream: bool = False, model: str = MODEL) -> str:
    """Return one chat request as a line of JSON."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return orjson.dumps({"model": model, "messages": messages, "stream": stream}).decode()


def without_ttl(cache_status: str) -> str:
    """Return a Cache-Status value without its ttl."""
    parts = [part.strip() for part in cache_status.split(";")]
    return "; ".join(part for part in parts if not part.startswith("ttl="))


@dataclass(slots=True)
class Stand:
    """Everything that the cases measure."""

    nearhit: Server
    upstream: Server
    slow_upstream: Server
    echo: Server
    bare: Server
    encoding_echo: Server
    encoding_bare: Server
    session: aiohttp.ClientSession
    encoder: Encoder
    seconds: int
    supply: Supply = field(default_factory=lambda: Supply(rewordings(subjects())))

    async def calls(self, path: str = CHAT) -> int:
        """Return how many calls of a path reached the upstream so far."""
        return await quiet_calls(self.session, self.upstream, path)

    async def store(self, body: str) -> None:
        """Have an answer stored; raise StandFailed when it does not hit soon after."""
        url = self.nearhit.origin + CHAT
        deadline = time.perf_counter() + STORED_LIMIT
        while (outcome := await ask(self.session, url, body)) != EXACT_HIT:
            if time.perf_counter() > deadline:
                raise StandFailed(f"a request asked again and again is {outcome!r}")
            await asyncio.sleep(0.05)


async def quiet_calls(session: aiohttp.ClientSession, upstream: Server, path: str = CHAT) -> int:
    """Return how many calls of a path reached an upstream, once no more arrive.

    A load that ends leaves requests under way; they must not count for the next one.
    """
    count = -1
    deadline = time.perf_counter() + QUIET_LIMIT
    while True:
        async with session.get(upstream.origin + "/calls") as answer:
            paths: dict[str, int] = (await answer.json())["paths"]
        if paths.get(path, 0) == count:
            return count
        if time.perf_counter() > deadline:
            raise StandFailed(f"{upstream.origin} is still being called, {QUIET_LIMIT:g} s later")
        count = paths.get(path, 0)
        await asyncio.sleep(QUIET)


async def ask(
    session: aiohttp.ClientSession, url: str, body: str, headers: Mapping[str, str] | None = None
) -> str:
    """Return one answer's Cache-Status without its ttl; raise StandFailed on another than 200."""
    headers = {"content-type": "application/json", **(headers or {})}
    async with session.post(url, data=body.encode(), headers=headers) as answer:
        text = await answer.read()
        if answer.status != 200:
            raise StandFailed(f"{url} answered {answer.status}: {text[:300]!r}")
        return without_ttl(answer.headers.get("cache-status", "none"))


def bench_categories() -> list[dict[str, object]]:
    """Return the starter policies with all their rules and examples, but alike in what they allow.

    Telling categories costs what it costs by default; no text lands where it cannot hit, and
    nothing expires, is evicted or gives way to load in the middle of a row. Two of a thousand
    rewordings are taken for sums ("How does one transport a canoe in Athens?"), which have a score
    of their own that lets little pass: it goes by the category's name, so that one has another.
    """
    alike = {
        "mode": "semantic",
        "hit_threshold": 0.6,
        "error_budget": 0.15,  # as the starter file has them: guards and score are on the way
        "near_threshold": 0.5,
        "ttl": "24h",
        "load": None,
        "quota": {"entries": 200_000, "bytes": "4GiB"},
    }
    book = load_policies(None)
    names = {"math": "sums"}
    return [
        {**policy_as_data(book[name]), **alike, "name": names.get(name, name)}
        for name in book.names
    ]


def write_config(folder: Path, upstream: Server, slow_upstream: Server) -> Path:
    """Write the configuration of a Nearhit with defaults in everything that costs time."""
    (folder / "policies.yaml").write_text(yaml.safe_dump({"categories": bench_categories()}))
    config: dict[str, Any] = {
        "data_dir": str(folder / "data"),
        "upstreams": [
            {"name": "fake", "base_url": upstream.origin + "/v1", "models": ["*"]},
            {"name": "slow", "base_url": slow_upstream.origin + "/v1", "models": [SLOW_MODEL]},
        ],
        "policies": str(folder / "policies.yaml"),
        # The fake upstream answers in no time: looking up before it never pays, and would stop.
        "lookup_gate": False,
    }
    path = folder / "nearhit.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


async def fill(nearhit: Server, questions: Sequence[str]) -> None:
    """Store an answer to every question by asking it, lookups skipped."""
    left = iter(questions)
    done = 0
    url = nearhit.origin + CHAT

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal done
        for question in left:
            await ask(session, url, chat_body(question), {"cache-control": "no-cache"})
            done += 1
            if done % 1000 == 0:
                say(f"filling: {done} of {len(questions)} questions stored")

    async with aiohttp.ClientSession() as session, asyncio.timeout(FILL_LIMIT):
        async with asyncio.TaskGroup() as workers:
            for _ in range(FILL_WORKERS):
                workers.create_task(work(session))
        await check_filled(session, nearhit, questions)


async def check_filled(
    session: aiohttp.ClientSession, nearhit: Server, questions: Sequence[str]
) -> None:
    """Raise StandFailed unless twenty of the questions, the last one included, hit exactly.

    An answer hits 100 ms after its last byte, on a machine that is not busy with others' work.
    """
    url = nearhit.origin + CHAT
    until = time.monotonic() + VISIBLE_LIMIT
    for question in questions[:: -max(1, len(questions) // 20)]:
        outcome = ""
        while not outcome:
            try:
                outcome = await ask(
                    session, url, chat_body(question), {"cache-control": "only-if-cached"}
                )
            except StandFailed:  # not in the cache
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)
        if outcome != EXACT_HIT:
            raise StandFailed(f"a question that was stored is {outcome!r}")


@dataclass(frozen=True, slots=True)
class Base:
    """The servers that stay up while Nearhit comes and goes."""

    upstream: Server
    slow_upstream: Server
    echo: Server
    bare: Server
    encoding_echo: Server
    encoding_bare: Server
    config: Path


@asynccontextmanager
async def open_base(folder: Path) -> AsyncIterator[Base]:
    """Start upstreams and floors, and write the config of the Nearhit before them."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(
            running("fake upstream", python_server("bench.fake_upstream"))
        )
        slow = await stack.enter_async_context(
            running("slow upstream", python_server("bench.fake_upstream", *SLOW_PACE))
        )
        echo = await stack.enter_async_context(
            running("echo", python_server("bench.floors", "echo"))
        )
        bare = await stack.enter_async_context(
            running(
                "bare pass-through",
                python_server("bench.floors", "passthrough", "--upstream", upstream.origin),
            )
        )
        encoding_echo = await stack.enter_async_context(
            running("echo that encodes", python_server("bench.floors", "echo", "--encode"))
        )
        forward = ("passthrough", "--encode", "--upstream", upstream.origin)
        encoding_bare = await stack.enter_async_context(
            running("pass-through that encodes", python_server("bench.floors", *forward))
        )
        servers = (upstream, slow, echo, bare, encoding_echo, encoding_bare)
        yield Base(*servers, write_config(folder, upstream, slow))


@asynccontextmanager
async def running_nearhit(config: Path) -> AsyncIterator[Server]:
    """Run `nearhit serve` until it is left; ready when /ready says so."""
    async with running("nearhit", nearhit_server(config), "/ready", READY_LIMIT) as server:
        yield server


@asynccontextmanager
async def open_stand(base: Base, encoder: Encoder, seconds: int) -> AsyncIterator[Stand]:
    """Start Nearhit on what was filled, and hand out the stand."""
    async with running_nearhit(base.config) as nearhit, aiohttp.ClientSession() as session:
        yield Stand(
            nearhit=nearhit,
            upstream=base.upstream,
            slow_upstream=base.slow_upstream,
            echo=base.echo,
            bare=base.bare,
            encoding_echo=base.encoding_echo,
            encoding_bare=base.encoding_bare,
            session=session,
            encoder=encoder,
            seconds=seconds,
        )


async def fill_data(base: Base) -> Sequence[str]:
    """Start Nearhit on an empty data directory, fill it, stop it; return what is stored."""
    questions = [stored_question(subject) for subject in subjects()]
    async with running_nearhit(base.config) as nearhit:
        say(f"filling: {len(questions)} questions, through the proxy")
        await fill(nearhit, questions)
    return questions
