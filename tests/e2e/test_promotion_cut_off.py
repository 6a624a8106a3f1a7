"""A promotion that is cut off goes on, and one that is not wanted any more is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from embed.checkpoint import Checkpoint
from proxy import sides
from tests.e2e.ground import chat
from tests.embed.test_checkpoint import write
from tests.fake_upstream import FakeUpstream
from tests.harness import Proxy, policies, proxy_running, settings_for
from tests.word_encoder import WordEncoder

BOOK = policies({"name": "default", "hit_threshold": 0.75, "near_threshold": 0.7})
QUESTION = "how long do you boil a brown egg"
AGAIN = "how long should you boil a brown egg"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(sides, "GRACE", 0.05)


@pytest.fixture
def candidate(tmp_path: Path) -> Checkpoint:
    return Checkpoint.load(write(tmp_path / "made"))


@dataclass
class Operator:
    """Asks a proxy, and speaks to its admin API."""

    proxy: Proxy
    http: aiohttp.ClientSession

    async def ask(self, question: str) -> str:
        return (await chat(self.http, self.proxy, question))[1]

    async def store(self) -> None:
        """Have some questions answered and stored."""
        for number in range(12):
            await self.ask(f"where is shelf number {number} of the long store room")
        await self.ask(QUESTION)
        await asyncio.sleep(0.1)

    async def post(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        url = f"{self.proxy.url}/admin/api/checkpoints/{path}"
        async with self.http.post(url, json=body) as answer:
            return answer.status, await answer.json()

    async def told(self) -> dict[str, Any]:
        async with self.http.get(f"{self.proxy.url}/admin/api/checkpoints") as answer:
            told: dict[str, Any] = await answer.json()
            return told

    async def until(self, **expected: Any) -> dict[str, Any]:
        """Wait until the promotion is so; return it."""
        async with asyncio.timeout(10):
            while True:
                promotion = (await self.told())["promotion"]
                if promotion is not None and expected.items() <= promotion.items():
                    return dict(promotion)
                await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(
    directory: Path, upstream: FakeUpstream, seconds: float
) -> AsyncIterator[Operator]:
    """Start a proxy whose candidate takes so long for each batch."""

    async def promoted(name: str) -> WordEncoder:
        return WordEncoder(name, seconds=seconds)

    settings = settings_for(directory, upstream.base_url, lookup_gate=False)
    old = WordEncoder("words-1")
    async with (
        proxy_running(settings, BOOK, encoder=old, promoted=promoted) as proxy,
        aiohttp.ClientSession() as http,
    ):
        yield Operator(proxy, http)


async def test_a_restart_while_entries_are_re_encoded_goes_on_by_itself(
    tmp_path: Path, candidate: Checkpoint
) -> None:
    async with FakeUpstream() as upstream:
        async with serving(tmp_path / "data", upstream, seconds=0.2) as at:
            await at.store()
            status, began = await at.post(
                "promote", checkpoint=str(candidate.directory), force=True
            )
            assert (status, began["promotion"]["outcome"]) == (202, "running")
            await at.until(step="stage")
            assert (await at.told())["checkpoints"][0]["state"] == "active"
            assert (await at.ask(AGAIN)).endswith("detail=semantic")
        async with serving(tmp_path / "data", upstream, seconds=0) as at:
            ended = await at.until(checkpoint=candidate.id, outcome="promoted")
            assert ended["reasons"][0].startswith("too few held-out pairs: 0")
            states = {row["id"]: row["state"] for row in (await at.told())["checkpoints"]}
            assert states == {"words-1": "former", candidate.id: "active"}
            assert (await at.ask(AGAIN)).endswith("detail=semantic")


async def test_a_promotion_under_way_is_alone_and_rolling_back_stops_it(
    tmp_path: Path, candidate: Checkpoint
) -> None:
    async with (
        FakeUpstream() as upstream,
        serving(tmp_path / "data", upstream, seconds=0.2) as at,
    ):
        await at.store()
        named = {"checkpoint": str(candidate.directory), "force": True}
        await at.post("promote", **named)
        await at.until(step="stage")
        status, refused = await at.post("promote", **named)
        assert (status, refused["error"]["code"]) == (409, "promotion_under_way")
        status, stopped = await at.post("rollback")
        assert (status, stopped) == (200, {"active": "words-1", "stopped": candidate.id})
        ended = await at.until(outcome="stopped")
        assert ended["reasons"] == ["stopped by anonymous on loopback"]
        assert (await at.ask(AGAIN)).endswith("detail=semantic")
        status, refused = await at.post("rollback")
        assert (status, refused["error"]["code"]) == (409, "nothing_before")
        for body, said in (
            ({}, "checkpoint: Field required"),
            ({"checkpoint": "x", "more": 1}, "more: "),
            ({"checkpoint": "../x"}, "is no checkpoint's id"),
        ):
            status, refused = await at.post("promote", **body)
            assert status == 400 and said in refused["error"]["message"]


async def test_what_is_promoted_a_second_time_over_another_keeps_serving(
    tmp_path: Path, candidate: Checkpoint
) -> None:
    other = Checkpoint.load(write(tmp_path / "other", weights="!"))
    async with FakeUpstream() as upstream, serving(tmp_path / "data", upstream, seconds=0) as at:
        await at.store()
        for each in (candidate, other, candidate):
            status, _ = await at.post("promote", checkpoint=str(each.directory), force=True)
            assert status == 202
            await at.until(checkpoint=each.id, outcome="promoted")
            assert (await at.ask(AGAIN)).endswith("detail=semantic")
        states = {row["id"]: row["state"] for row in (await at.told())["checkpoints"]}
        assert states == {candidate.id: "active", other.id: "former"}
