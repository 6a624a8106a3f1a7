"""An encoder that fails, hangs back or is drowned costs hits, never answers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from embed.encoder import Vectors
from embed.errors import EncoderFailed
from tests.e2e.conftest import Ask, Stage
from tests.harness import Proxy, proxy_running, settings_for

QUESTION = "How do I descale my kettle with vinegar?"
FAULT = "nearhit; fwd=bypass; detail=fault"


class FakeEncoder:
    """Gives each text a vector of its own, until told to do otherwise."""

    checkpoint = "fake"
    dimension = 64
    max_tokens = 512

    def __init__(self) -> None:
        self.trouble: Callable[[Sequence[str]], Vectors] | None = None
        self.going_on = asyncio.Event()
        self.going_on.set()
        self.asked = asyncio.Event()

    def fits(self, text: str) -> bool:
        if "unmeasurable" in text:
            raise RuntimeError("cannot be measured")
        return True

    def first_window(self, text: str) -> str | None:
        return text

    async def encode(self, texts: Sequence[str]) -> Vectors:
        self.asked.set()
        await self.going_on.wait()
        if self.trouble is not None:
            return self.trouble(texts)
        seeds = [int.from_bytes(sha256(text.encode()).digest()[:8]) for text in texts]
        rows = np.stack([np.random.default_rng(s).normal(size=self.dimension) for s in seeds])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)

    async def aclose(self) -> None: ...


def failing(texts: Sequence[str]) -> Vectors:
    raise EncoderFailed("the model is gone")


def crashing(texts: Sequence[str]) -> Vectors:
    raise ZeroDivisionError


def misshapen(texts: Sequence[str]) -> Vectors:
    return np.zeros((len(texts), 3), dtype=np.float32)


def unreadable(texts: Sequence[str]) -> Vectors:
    return np.full((len(texts), FakeEncoder.dimension), np.nan, dtype=np.float32)


async def proxy_with(stage: Stage, fake: FakeEncoder, **config: Any) -> Proxy:
    settings = settings_for(stage.data_dir, stage.upstream.base_url, **config)
    return await stage.stack.enter_async_context(proxy_running(settings, encoder=fake))


async def metrics(stage: Stage, proxy: Proxy) -> list[str]:
    async with stage.http.get(f"{proxy.url}/metrics") as answer:
        return (await answer.text()).splitlines()


def test_a_closed_proxy_leaves_nothing_in_memory(tmp_path: Path) -> None:
    """The encoder stands for all of it: cache, lookup and admin API each hold it."""

    async def served_once() -> weakref.ref[FakeEncoder]:
        encoder = FakeEncoder()
        async with (
            proxy_running(settings_for(tmp_path, "http://nowhere/v1"), encoder=encoder) as proxy,
            aiohttp.request("GET", f"{proxy.url}/ready") as ready,
        ):
            assert ready.status == 200
        return weakref.ref(encoder)

    held = asyncio.run(served_once())  # in a loop of its own: timers keep a connection for seconds
    gc.collect()
    assert held() is None


@pytest.mark.parametrize("trouble", [failing, crashing, misshapen])
async def test_while_the_encoder_fails_requests_are_answered_and_not_stored(
    stage: Stage, ask: Ask, trouble: Callable[[Sequence[str]], Vectors]
) -> None:
    encoder = FakeEncoder()
    proxy = await proxy_with(stage, encoder)
    client = stage.openai(proxy)
    stored = await ask(client, "What is a trivet?")
    encoder.trouble = trouble
    for serial in (2, 3):
        bypass = await ask(client, QUESTION)
        assert (bypass.status, bypass.text) == (FAULT, f"Answer {serial} to: {QUESTION}")
    assert (await ask(client, "What is a trivet?")).text == stored.text  # exact hits go on
    assert 'nearhit_faults_total{part="encoder"} 2.0' in await metrics(stage, proxy)
    encoder.trouble = None
    assert (await ask(client, QUESTION)).status == "nearhit; fwd=miss"
    assert (await ask(client, QUESTION)).hit
    assert 'nearhit_admissions_total{category="default",outcome="stored"} 2.0' in await metrics(
        stage, proxy
    )


async def test_a_proxy_whose_encoder_fails_is_not_ready(stage: Stage) -> None:
    encoder = FakeEncoder()
    proxy = await proxy_with(stage, encoder)
    for trouble, status, failing_parts in ((failing, 503, {"encoder"}), (None, 200, set())):
        encoder.trouble = trouble
        async with stage.http.get(f"{proxy.url}/ready") as ready:
            assert ready.status == status
            assert (await ready.json())["failing"].keys() == failing_parts


async def test_vectors_that_are_no_numbers_never_hit(stage: Stage, ask: Ask) -> None:
    encoder = FakeEncoder()
    encoder.trouble = unreadable
    client = stage.openai(await proxy_with(stage, encoder))
    for question in (QUESTION, "What is a trivet?", "Name three kinds of tea."):
        answer = await ask(client, question)
        assert answer.text.endswith(question)
        assert not answer.hit


async def test_a_lookup_that_breaks_is_a_bypass_and_counted(stage: Stage, ask: Ask) -> None:
    proxy = await proxy_with(stage, FakeEncoder())
    client = stage.openai(proxy)
    for serial in (1, 2):
        answer = await ask(client, "Is this unmeasurable?")
        assert (answer.status, answer.text[:8]) == (FAULT, f"Answer {serial}")
    assert 'nearhit_faults_total{part="lookup"} 2.0' in await metrics(stage, proxy)


async def test_when_too_many_texts_wait_the_rest_pass_by(stage: Stage, ask: Ask) -> None:
    encoder = FakeEncoder()
    proxy = await proxy_with(
        stage, encoder, encoder={"max_batch": 1, "max_waiting": 1, "max_wait": "60s"}
    )
    client = stage.openai(proxy)
    encoder.going_on.clear()
    running = asyncio.create_task(ask(client, "What is a trivet?"))
    await encoder.asked.wait()
    waiting = asyncio.create_task(ask(client, "Name three kinds of tea."))
    while "nearhit_encode_queue_length 1.0" not in await metrics(stage, proxy):
        pass
    for serial in (1, 2):
        passing = await ask(client, QUESTION)
        assert passing.status == "nearhit; fwd=bypass; detail=overload"
        assert passing.text == f"Answer {serial} to: {QUESTION}"
    assert not running.done() and not waiting.done()
    encoder.going_on.set()
    assert {(await running).status, (await waiting).status} == {"nearhit; fwd=miss"}
    assert (await ask(client, QUESTION)).status == "nearhit; fwd=miss"
    assert (await ask(client, QUESTION)).hit


async def test_nobody_waits_long_for_an_encoder_that_hangs(stage: Stage, ask: Ask) -> None:
    encoder = FakeEncoder()
    client = stage.openai(await proxy_with(stage, encoder, encoder={"max_wait": "100ms"}))
    encoder.going_on.clear()
    passing = await ask(client, QUESTION)
    assert passing.status == "nearhit; fwd=bypass; detail=overload"
    assert passing.text == f"Answer 1 to: {QUESTION}"
    encoder.going_on.set()
    assert (await ask(client, QUESTION)).status == "nearhit; fwd=miss"
