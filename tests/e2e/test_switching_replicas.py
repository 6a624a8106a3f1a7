"""Replicas that share a Redis change their checkpoint together, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from embed.errors import CheckpointInvalid
from proxy import following, sides
from proxy.policy_editor import Edited
from proxy.switching import SwitchRefused
from store.errors import StoreUnavailable, VersionTaken
from store.policy import PolicyBook
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
        self.slow: dict[int, float] = {}  # seconds that a promoted one takes a batch
        self.opened: dict[int, WordEncoder] = {}  # the promoted one that was opened last

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
            self.opened[number] = WordEncoder(name, seconds=self.slow.get(number, 0))
            return self.opened[number]

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
        with pytest.raises(SwitchRefused, match=r"data1\) cannot take it up: .* holds no"):
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


async def test_one_that_goes_while_it_stages_is_not_waited_for_and_follows_when_it_is_back(
    fleet: Fleet,
) -> None:
    async with fleet.replica(0) as one:
        fleet.slow = {1: 1.0}
        async with fleet.replica(1) as two:
            for number in range(20):
                await one.stored(f"where is shelf number {number} of the long store room")
            await one.stored(QUESTION)
            await finds(two, OLD)
            new = WordEncoder(NEW)
            staging = asyncio.create_task(one.switch.stage(new, lambda done, of: None))
            async with asyncio.timeout(10):
                while 1 not in fleet.opened or not fleet.opened[1].encoded:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert not staging.done(), "who lives is waited for"
        await staging
        await one.swap(new, raised)
        await finds(one, NEW)
        fleet.slow = {}
        async with fleet.replica(1) as back:
            assert back.switch.active == NEW
            assert back.switch._in_force.rules.book["default"].hit_threshold == 0.8
            await finds(back, NEW)


async def test_an_emptied_redis_is_told_again_which_checkpoint_the_policies_are_for(
    fleet: Fleet,
) -> None:
    async with fleet.replica(0) as one, fleet.replica(1) as two:
        await one.stored(QUESTION)
        await one.promote(WordEncoder(NEW), raised)
        await serves(two, NEW)
        fleet.redis.kill()
        fleet.redis.start()
        async with asyncio.timeout(20):
            while not await told(one, two):  # noqa: ASYNC110 - a replica tells nobody here
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.7)  # two looks at what is recorded
        for each in (one, two):
            assert (each.switch.active, each.switch.former) == (NEW, OLD)
            assert each.switch._in_force.rules.book["default"].hit_threshold == 0.8
            await each.stored(QUESTION)
            await finds(each, NEW)


async def told(*replicas: Asker) -> bool:
    """Whether the store knows again what these replicas serve with."""
    for each in replicas:
        editor = each.switch._editor
        try:
            if await editor._history.latest() is None or await each.switch.belongs_elsewhere():
                return False
        except StoreUnavailable:
            return False
    return True


async def test_two_operators_who_go_back_at_two_replicas_at_once_go_back_once(
    fleet: Fleet,
) -> None:
    async with fleet.replica(0) as one, fleet.replica(1) as two:
        await one.stored(QUESTION)
        await finds(two, OLD)
        for wanted, edit in ((NEW, lowered), (OLD, raised), (NEW, lowered), (OLD, raised)):
            if one.switch.former == "":
                await one.promote(WordEncoder(NEW), edit)
            else:
                done = await asyncio.gather(
                    one.switch.rollback(edit, "ops"),
                    two.switch.rollback(edit, "ops"),
                    return_exceptions=True,
                )
                assert any(each is None for each in done), done
                refused = [each for each in done if each is not None]
                assert all(isinstance(each, SwitchRefused | VersionTaken) for each in refused)
            await serves(one, wanted)
            await serves(two, wanted)
            await asyncio.sleep(0.4)  # a look at what is recorded
            for each in (one, two):
                assert each.switch.active == wanted
                book = each.switch._in_force.rules.book
                assert book["default"].hit_threshold == (0.76 if wanted == NEW else 0.8)
                await finds(each, wanted)


async def test_of_two_who_promote_at_two_replicas_at_once_one_gives_way(fleet: Fleet) -> None:
    async with fleet.replica(0) as one, fleet.replica(1) as two:
        await one.stored(QUESTION)
        await finds(two, OLD)
        done = await asyncio.gather(
            one.switch.stage(WordEncoder(NEW, seconds=0.1), lambda done, of: None),
            two.switch.stage(WordEncoder(NEW, seconds=0.1), lambda done, of: None),
            return_exceptions=True,
        )
        (refused,) = (each for each in done if each is not None)
        assert isinstance(refused, SwitchRefused) and "another replica" in str(refused)
        winner = one if done[0] is None else two
        await winner.swap(WordEncoder(NEW))
        for each in (one, two):
            await serves(each, NEW)
            await finds(each, NEW)


def lowered(book: PolicyBook) -> Edited:
    changed = {name: replace(p, hit_threshold=0.76) for name, p in book.policies.items()}
    return PolicyBook(changed), ("checkpoint.promote", None, None, {"checkpoint": NEW})
