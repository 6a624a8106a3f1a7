"""Replicas that share a Redis change their checkpoint together, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from embed.errors import CheckpointInvalid
from proxy import following, sides
from proxy.switching import SwitchRefused
from tests.e2e.test_switching import AGAIN, BOOK, NEW, OLD, QUESTION, Asker, kept, raised
from tests.fake_upstream import FakeUpstream
from tests.harness import proxy_running, settings_for
from tests.redis_servers import RedisServer
from tests.word_encoder import WordEncoder, cosine

pytestmark = pytest.mark.serial


class Fleet:
    """Replicas on one Redis, and which checkpoints each of them has got."""

    def __init__(self, directory: Path, redis: RedisServer, upstream: FakeUpstream) -> None:
        self.directory = directory
        self.redis = redis
        self.upstream = upstream
        self.missing: set[int] = set()

    @asynccontextmanager
    async def replica(self, number: int) -> AsyncIterator[Asker]:
        settings = settings_for(
            self.directory / f"data{number}",
            self.upstream.base_url,
            documents=self.redis.url,
            redis={"request_timeout": "1s"},
            encoder={"reencoding_share": 1.0},
            lookup_gate=False,
        )

        async def promoted(name: str) -> WordEncoder:
            if number in self.missing:
                raise CheckpointInvalid(f"{name} holds no manifest.json")
            return WordEncoder(name)

        async with AsyncExitStack() as stack:
            running = proxy_running(settings, BOOK, encoder=WordEncoder(OLD), promoted=promoted)
            proxy = await stack.enter_async_context(running)
            http = await stack.enter_async_context(aiohttp.ClientSession())
            yield Asker(proxy, http)


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(sides, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(sides, "GRACE", 0.1)
    monkeypatch.setattr(following, "LOOK_EVERY", 0.3)
    monkeypatch.setattr(following, "ASK_EVERY", 0.05)
    redis = RedisServer(tmp_path / "redis").start()
    async with FakeUpstream() as upstream:
        yield Fleet(tmp_path, redis, upstream)
    redis.stop()


async def serves(asker: Asker, checkpoint: str) -> None:
    async with asyncio.timeout(20):
        while asker.switch.active != checkpoint:  # noqa: ASYNC110 - a replica tells nobody here
            await asyncio.sleep(0.02)


async def finds(asker: Asker, checkpoint: str) -> None:
    """Wait until the paraphrase is found with the checkpoint's own similarity."""
    expected = pytest.approx(cosine(checkpoint, QUESTION, AGAIN), abs=1e-3)
    await asker.until(lambda answer: answer.similarity == expected, AGAIN)


async def test_all_stage_and_all_swap_with_the_policies_that_belong_to_it(fleet: Fleet) -> None:
    async with fleet.replica(0) as one, fleet.replica(1) as two:
        await one.stored(QUESTION)
        await finds(two, OLD)
        await one.promote(WordEncoder(NEW), raised)
        await serves(two, NEW)
        for each in (one, two):
            await finds(each, NEW)
        assert two.switch.former == OLD
        rules = [each.switch._in_force.rules for each in (one, two)]
        assert rules[0].book == rules[1].book
        assert rules[1].book["default"].hit_threshold == 0.8
        await two.switch.rollback(kept, "ops")
        await serves(one, OLD)
        for each in (one, two):
            await finds(each, OLD)


async def test_a_replica_that_has_not_got_it_keeps_all_from_swapping(fleet: Fleet) -> None:
    fleet.missing.add(1)
    async with fleet.replica(0) as one, fleet.replica(1) as two:
        await one.stored(QUESTION)
        with pytest.raises(SwitchRefused, match=r"holds no manifest\.json"):
            await one.switch.stage(WordEncoder(NEW), lambda done, of: None)
        assert (one.switch.active, one.switch.staging) == (OLD, "")
        for each in (one, two):
            await finds(each, OLD)


async def test_one_that_comes_late_takes_it_up_or_answers_nothing_by_meaning(fleet: Fleet) -> None:
    async with fleet.replica(0) as one:
        await one.stored(QUESTION)
        await one.promote(WordEncoder(NEW))
        fleet.missing.add(2)
        async with fleet.replica(1) as late, fleet.replica(2) as without:
            assert late.switch.active == NEW
            await finds(late, NEW)
            answer = await without.ask(AGAIN, store=False)
            assert answer.status.endswith("detail=fault")
            fleet.missing.clear()
            await finds(without, NEW)
