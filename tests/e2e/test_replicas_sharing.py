"""Two replicas in front of one upstream: identical questions asked at once cost one call."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import proxy.requests_root
from proxy.admission import Admitter
from proxy.forward import Forwarder
from proxy.leasing import Leasing
from store.leases import Leading
from store.redis.connection import RedisConnection
from store.redis.leases import RedisLeases
from store.redis.outgoing import RedisLease
from tests.e2e.ground import MISS, chat, counted, fresh_question
from tests.e2e.test_encoder_faults import FakeEncoder
from tests.fake_upstream import FakeUpstream, Script
from tests.harness import Proxy, proxy_running, settings_for
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.serial

COLLAPSED = "nearhit; fwd=miss; collapsed"
PATIENCE = 1.0  # seconds


@dataclass
class Fleet:
    """Two replicas whose entries are their own, and that share flights."""

    upstream: FakeUpstream
    redis: RedisServer
    http: aiohttp.ClientSession
    proxies: list[Proxy] = field(default_factory=list)
    admitters: list[Admitter] = field(default_factory=list)
    leases: list[RedisLeases] = field(default_factory=list)
    copies: bool = False  # what one has stored reaches the other when it catches up

    async def ask(self, replica: int, question: str, **more: Any) -> tuple[int, str, bytes]:
        """Ask a replica; return status, Cache-Status and body."""
        return await chat(self.http, self.proxies[replica], question, **more)

    async def begun(self, replica: int, question: str) -> tuple[aiohttp.ClientResponse, bytes]:
        """Ask a replica for a stream; return it with its first bytes."""
        body = {"model": "m", "messages": [{"role": "user", "content": question}], "stream": True}
        url = f"{self.proxies[replica].base_url}/chat/completions"
        answer = await self.http.post(url, json=body, headers={"Authorization": "Bearer sk-test"})
        return answer, await answer.content.readany()

    async def outcomes(self) -> dict[str, int]:
        """Return how often each lease outcome was counted on both."""
        total: dict[str, int] = {}
        for each in self.proxies:
            counts = await counted(self.http, each, "nearhit_lease_outcomes_total", "outcome")
            for outcome, count in counts.items():
                total[outcome] = total.get(outcome, 0) + count
        return total

    def lose_leader(self, replica: int) -> None:
        """Let a replica lead on without renewing, as if it were paused."""
        for lease in self.leases[replica]._held.values():
            lease.held_until = 0.0
        renewing = self.leases[replica]._renewing
        assert renewing is not None
        renewing.cancel()

    async def caught_up(self, replica: int) -> None:
        """Bring what the other has stored, if entries are copied."""
        if self.copies:
            mine, other = self.admitters[replica]._cache, self.admitters[1 - replica]._cache
            for id in list(other._memory.held):
                entry = await other._documents.get(id)
                assert entry is not None
                await mine.admit(entry)


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        server = RedisServer(tmp_path / "redis").start()
        stack.callback(server.stop)
        upstream = await stack.enter_async_context(FakeUpstream())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        fleet = Fleet(upstream, server, http)
        for replica in range(2):
            connection = RedisConnection.to(server.url)
            stack.push_async_callback(connection.aclose)
            leases = RedisLeases(connection, lease_seconds=0.6, renewal_seconds=0.15)
            stack.push_async_callback(leases.aclose)
            await _warmed(leases)

            def forwarder(
                replica: int = replica, leases: RedisLeases = leases, **parts: Any
            ) -> Forwarder:
                fleet.admitters.append(parts["admitter"])
                leasing = Leasing(
                    leases,
                    admitter=parts["admitter"],
                    metrics=parts["metrics"],
                    caught_up=lambda: fleet.caught_up(replica),
                )
                return Forwarder(**{**parts, "leasing": leasing})

            monkeypatch.setattr(proxy.requests_root, "Forwarder", forwarder)
            settings = settings_for(
                tmp_path / f"data{replica}", upstream.base_url, flight={"patience": PATIENCE}
            )
            running = proxy_running(settings, encoder=FakeEncoder())
            fleet.proxies.append(await stack.enter_async_context(running))
            fleet.leases.append(leases)
        yield fleet


async def _warmed(leases: RedisLeases) -> None:
    """Connect: on a busy machine that takes longer than a request waits."""
    await leases._connection.client.ping()


@pytest.mark.parametrize("stream", [True, False])
async def test_identical_questions_at_two_replicas_cost_one_call(
    fleet: Fleet, stream: bool
) -> None:
    question = fresh_question()
    fleet.upstream.play(Script(delay=0.5))
    asked = [fleet.ask(n % 2, question, stream=stream) for n in range(40)]
    answers = await asyncio.gather(*asked)
    assert {status for status, _, _ in answers} == {200}
    assert len({told for _, _, told in answers}) == 1
    assert sorted(status for _, status, _ in answers) == [MISS, *[COLLAPSED] * 39]
    assert len(fleet.upstream.calls) == 1
    assert await fleet.outcomes() == {"led": 1, "followed": 1}


async def test_a_follower_elsewhere_sees_the_first_chunk_before_the_leaders_last(
    fleet: Fleet,
) -> None:
    question = fresh_question()
    fleet.upstream.play(Script(text="word " * 40, hold_after=5))
    leader, first = await fleet.begun(0, question)
    follower, seen = await asyncio.wait_for(fleet.begun(1, question), 5)
    assert seen
    assert follower.headers["cache-status"] == COLLAPSED
    fleet.upstream.release.set()
    assert first + await leader.read() == seen + await follower.read()
    assert len(fleet.upstream.calls) == 1


@pytest.mark.parametrize("first", [True, False], ids=["stream first", "JSON first"])
async def test_a_follower_elsewhere_may_ask_for_the_other_form(fleet: Fleet, first: bool) -> None:
    question = fresh_question()
    fleet.upstream.play(Script(delay=0.5))
    leading = asyncio.create_task(fleet.ask(0, question, stream=first))
    await fleet.upstream.until(lambda: len(fleet.upstream.calls) == 1)
    status, cache_status, told = await fleet.ask(1, question, stream=not first)
    assert (status, cache_status) == (200, COLLAPSED)
    assert told.endswith(b"data: [DONE]\n\n") is not first
    assert (await leading)[0] == 200
    assert len(fleet.upstream.calls) == 1


async def test_a_failing_upstream_fails_for_followers_elsewhere_too(fleet: Fleet) -> None:
    for script, expected in (
        (Script(delay=0.3, status=418, body=b'{"error":"teapot"}'), 418),
        (Script(delay=0.3, drop=True), 502),
    ):
        question, before = fresh_question(), len(fleet.upstream.calls)
        fleet.upstream.play(*[script] * 3)  # it tries again
        leading = asyncio.create_task(fleet.ask(0, question))
        await fleet.upstream.until(lambda: len(fleet.upstream.calls) > before)  # noqa: B023
        assert (await fleet.ask(1, question))[0] == expected
        assert (await leading)[0] == expected
        fleet.upstream._queue.clear()


async def test_an_answer_that_has_just_landed_elsewhere_is_looked_up_again(fleet: Fleet) -> None:
    question = fresh_question()
    fleet.copies = True
    await fleet.ask(0, question)
    await _landed(fleet)
    status, cache_status, _ = await fleet.ask(1, question)
    assert (status, cache_status.split("; ttl")[0]) == (200, "nearhit; hit")
    assert len(fleet.upstream.calls) == 1
    assert (await fleet.outcomes())["landed"] == 1


async def test_what_landed_but_is_not_there_any_more_is_asked_for_again(fleet: Fleet) -> None:
    question = fresh_question()
    await fleet.ask(0, question)
    await _landed(fleet)
    answers = await asyncio.gather(*[fleet.ask(1, question) for _ in range(10)])
    assert sorted(status for _, status, _ in answers) == [*[MISS], *[COLLAPSED] * 9]
    assert len(fleet.upstream.calls) == 2


async def _landed(fleet: Fleet) -> None:
    async with asyncio.timeout(5):
        for lease in list(fleet.leases[0]._held.values()):
            await lease.gone.wait()


async def test_when_the_leader_dies_before_the_first_byte_exactly_one_takes_over(
    fleet: Fleet,
) -> None:
    question = fresh_question()
    dead = await fleet.leases[0].acquire(await _key_of(fleet, question))
    assert isinstance(dead, Leading)
    assert isinstance(dead.lease, RedisLease)
    asked = [asyncio.create_task(fleet.ask(n % 2, question, stream=True)) for n in range(10)]
    fleet.lose_leader(0)
    answers = await asyncio.gather(*asked)
    assert {status for status, _, _ in answers} == {200}
    assert len(fleet.upstream.calls) == 2  # one found out the key
    assert (await fleet.outcomes())["taken_over"] == 1


async def _key_of(fleet: Fleet, question: str) -> str:
    """Return the exact key of a question, by asking it uncached."""
    ids = list[str]()
    lease = fleet.leases[0].acquire

    async def noted(id: str, *, mind_landed: bool = True) -> Any:
        ids.append(id)
        return await lease(id, mind_landed=mind_landed)

    fleet.leases[0].acquire = noted  # type: ignore[method-assign]
    fleet.upstream.play(Script(finish_reason="length"))  # which is not stored
    await fleet.ask(0, question)
    fleet.leases[0].acquire = lease  # type: ignore[method-assign]
    await _landed(fleet)
    return ids[0]


async def test_a_silent_leader_elsewhere_is_left_once_patience_runs_out(fleet: Fleet) -> None:
    question = fresh_question()
    fleet.upstream.play(Script(delay=30))
    leading = asyncio.create_task(fleet.ask(0, question))
    await fleet.upstream.until(lambda: len(fleet.upstream.calls) == 1)
    began = time.perf_counter()
    answers = await asyncio.gather(*[fleet.ask(1, question) for _ in range(5)])
    assert PATIENCE - 0.3 < time.perf_counter() - began < PATIENCE + 2
    assert {status for status, _, _ in answers} == {200}
    assert len(fleet.upstream.calls) == 2  # those who waited here went together
    assert (await fleet.outcomes())["silent"] == 1
    leading.cancel()


async def test_a_leader_that_was_paused_does_not_store_over_the_newer_answer(
    fleet: Fleet,
) -> None:
    question = fresh_question()
    fleet.upstream.play(Script(text="old " * 10, hold_after=3))
    old, first = await fleet.begun(0, question)
    fleet.lose_leader(0)
    await asyncio.sleep(0.8)  # its lease runs out
    status, cache_status, newer = await fleet.ask(1, question)
    assert (status, cache_status) == (200, MISS)
    fleet.upstream.release.set()
    assert b"old" in first + await old.read()
    async with asyncio.timeout(5):
        while (await fleet.outcomes()).get("superseded") != 1:
            pass
    assert (await fleet.ask(1, question))[1].startswith("nearhit; hit")
    assert not (await fleet.ask(0, question))[1].startswith("nearhit; hit")


async def test_a_hang_up_at_the_leader_cancels_nothing_that_a_follower_elsewhere_waits_for(
    fleet: Fleet,
) -> None:
    question = fresh_question()
    fleet.upstream.play(Script(text="word " * 40, hold_after=3))
    leader, _ = await fleet.begun(0, question)
    follower, seen = await fleet.begun(1, question)
    await asyncio.sleep(0.5)  # a renewal tells the leader
    leader.close()
    await asyncio.sleep(0.1)
    fleet.upstream.release.set()
    assert (seen + await follower.read()).endswith(b"data: [DONE]\n\n")
    assert fleet.upstream.cancelled == 0


async def test_when_everybody_everywhere_has_left_the_call_is_cancelled(fleet: Fleet) -> None:
    question = fresh_question()
    fleet.upstream.play(Script(endless=True, token_delay=0.01))
    leader, _ = await fleet.begun(0, question)
    follower, _ = await fleet.begun(1, question)
    leader.close()
    follower.close()
    await fleet.upstream.until(lambda: fleet.upstream.cancelled == 1)


async def test_a_stream_whose_leader_elsewhere_dies_amid_it_ends_with_an_error_event(
    fleet: Fleet,
) -> None:
    question = fresh_question()
    fleet.upstream.play(Script(text="word " * 40, hold_after=5))
    leader, _ = await fleet.begun(0, question)
    follower, seen = await fleet.begun(1, question)
    fleet.lose_leader(0)
    told = seen + await asyncio.wait_for(follower.read(), 10)
    assert b'"error"' in told
    assert b"[DONE]" not in told
    fleet.upstream.release.set()
    await leader.read()


async def test_without_redis_every_replica_answers_for_itself_within_the_budget(
    fleet: Fleet,
) -> None:
    fleet.redis.send(signal.SIGSTOP)
    try:
        began = time.perf_counter()
        question = fresh_question()
        answers = await asyncio.gather(*[fleet.ask(n % 2, question) for n in range(10)])
        assert time.perf_counter() - began < 1.0
        assert {status for status, _, _ in answers} == {200}
        assert len(fleet.upstream.calls) == 2
        assert (await fleet.ask(0, question))[1].startswith("nearhit; hit")
        assert (await fleet.outcomes())["unavailable"] == 2
    finally:
        fleet.redis.send(signal.SIGCONT)


async def test_what_must_not_be_shared_asks_for_no_lease(fleet: Fleet) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": fresh_question()}],
    }
    for wish in ("no-store", "no-cache"):
        headers = {"Authorization": "Bearer sk-test", "Cache-Control": wish}
        url = f"{fleet.proxies[0].base_url}/chat/completions"
        async with fleet.http.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200
            await answer.read()
    assert await fleet.outcomes() == {}
