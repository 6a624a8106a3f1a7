"""A proxy in this process, in front of the fake upstream, spoken to by the official SDKs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import onnxruntime
import openai
import pytest

from embed.checkpoint import bundled_checkpoint_dir
from tests.fake_upstream import FakeUpstream
from tests.harness import Proxy, policies, proxy_running, settings_for

_LOADED: dict[tuple[str, int], Any] = {}  # sessions by weights and threads


@pytest.fixture(scope="module", autouse=True)
def one_loaded_model() -> Iterator[None]:
    """Let all proxies of a test process run the bundled weights in one session; each takes 0.2 s.

    A session holds weights, and nothing that a request leaves behind. Other checkpoints, which
    tests make, promote and damage, are loaded as ever.
    """
    load = onnxruntime.InferenceSession
    bundled = bundled_checkpoint_dir()

    def shared(weights: str, options: Any, **more: Any) -> Any:
        if not Path(weights).is_relative_to(bundled):
            return load(weights, options, **more)
        key = weights, options.intra_op_num_threads
        if key not in _LOADED:
            _LOADED[key] = load(weights, options, **more)
        return _LOADED[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "InferenceSession", shared)
        yield


@dataclass
class Stage:
    """A fake upstream, and proxies and clients in front of it."""

    upstream: FakeUpstream
    data_dir: Path
    stack: AsyncExitStack
    http: aiohttp.ClientSession

    async def proxy(self, *categories: dict[str, Any], **config: Any) -> Proxy:
        """Start a proxy; `categories` are its policies, `config` its top-level settings."""
        settings = settings_for(self.data_dir, self.upstream.base_url, **config)
        book = policies(*categories) if categories else None
        return await self.stack.enter_async_context(proxy_running(settings, book))

    def openai(self, proxy: Proxy, key: str = "sk-test") -> openai.AsyncOpenAI:
        """Return an official client that does not retry."""
        client = openai.AsyncOpenAI(base_url=proxy.base_url, api_key=key, max_retries=0)
        self.stack.push_async_callback(client.close)
        return client

    def anthropic(self, proxy: Proxy, key: str = "sk-test") -> anthropic.AsyncAnthropic:
        """Return an official client that does not retry."""
        client = anthropic.AsyncAnthropic(base_url=proxy.url, api_key=key, max_retries=0)
        self.stack.push_async_callback(client.close)
        return client


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with (
        FakeUpstream() as upstream,
        aiohttp.ClientSession() as http,
        AsyncExitStack() as stack,
    ):
        yield Stage(upstream, tmp_path / "data", stack, http)


@dataclass
class Asked:
    """One answer, as far as these tests look at it."""

    status: str  # Cache-Status
    text: str
    headers: Any

    @property
    def hit(self) -> bool:
        return self.status.startswith("nearhit; hit")


Ask = Callable[..., Any]


@pytest.fixture
def ask(stage: Stage) -> Ask:
    """Ask a chat question with the official SDK; return an Asked once its answer can hit."""

    async def ask(
        client: openai.AsyncOpenAI, *messages: Any, headers: Any = None, **more: Any
    ) -> Asked:
        turns = [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
        raw = await client.chat.completions.with_raw_response.create(
            model=more.pop("model", "gpt-4o-mini"),
            messages=turns,  # type: ignore[arg-type]
            extra_headers=headers,
            **more,
        )
        await asyncio.sleep(0.1)  # the contract's time for a stored answer to become visible
        text = raw.parse().choices[0].message.content or ""
        return Asked(raw.headers["cache-status"], text, raw.headers)

    return ask
