"""What one replica does takes effect on the other, and a paused leader splices nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.faults.site import Site, site_in
from tests.fake_upstream import Script

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.serial]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Two replicas that every test of this file leaves as it found them."""
    async with site_in(tmp_path_factory.mktemp("pair")) as site:
        redis = await site.redis(version="8")
        site.proxy(redis.url)
        site.proxy(redis.url)
        await site.ready()
        yield site


async def test_a_put_on_one_hits_on_the_other_within_a_second(pair: Site) -> None:
    for number in range(20):
        question, there = f"Which tin holds tea {number}?", number % 2
        told = await pair.ask(there, question)
        assert await pair.until_hit(1 - there, question, 1.0) == told.call
    await pair.converge(f"Which tin holds tea {number}?" for number in range(20))


async def test_what_is_stopped_or_purged_on_one_is_gone_from_the_other_at_once(pair: Site) -> None:
    questions = [f"Which jar holds jam {number}?" for number in range(12)]
    for number, question in enumerate(questions):
        there = number % 2
        await pair.put(there, question)
        await pair.until_hit(1 - there, question, 1.0)
        entry = (await pair.ask(1 - there, question)).entry
        if number % 3 == 0:
            assert await pair.admin(there, f"entries/{entry}/quarantine", {}) == 200
        elif number % 3 == 1:
            assert await pair.purge(there, id=entry) == 200
        else:
            assert await pair.admin(there, f"entries/{entry}", None, "DELETE") == 200
        assert not await pair.hit(1 - there, question)
        assert not await pair.hit(there, question)
    assert set((await pair.converge(questions)).values()) == {""}


async def test_a_purge_on_one_takes_what_the_other_was_asked_before(pair: Site) -> None:
    selectors: list[dict[str, Any]] = [{"prefix": "Which crate"}, {"all": True}, {"tag": "x"}]
    for number, selector in enumerate(selectors):
        question, before = f"Which crate holds pears {number}?", len(pair.upstream.calls)
        pair.upstream.play(Script(delay=0.5))
        asking = asyncio.create_task(pair.ask(1, question, tag="x"))
        await pair.upstream.until(lambda: len(pair.upstream.calls) > before)  # noqa: B023
        assert await pair.purge(0, **selector) == 200
        assert (await asking).status == 200
        await asyncio.sleep(0.3)
        assert set((await pair.converge([question])).values()) == {""}
        told = await pair.put(1, question)  # asked for after it
        assert await pair.until_hit(0, question, 1.0) == told.call


async def test_a_client_that_complains_is_served_that_answer_by_no_replica(pair: Site) -> None:
    question = "Which shelf holds salt?"
    await pair.put(0, question)
    entry = await pair.until_hit(1, question, 1.0) and (await pair.ask(1, question)).entry
    verdict = {"response_id": entry, "verdict": "wrong"}
    async with pair.http.post(
        f"{pair.proxies[0].proxy.url}/nearhit/feedback", json=verdict
    ) as answer:
        assert answer.status == 202
    assert not await pair.hit(1, question)
    assert await pair.converge([question]) == {question: ""}


async def test_a_policy_changed_on_one_is_in_force_on_the_other(pair: Site) -> None:
    question = "Which box holds nails?"
    policy = {"mode": "exact", "match": [{"regex": "nails"}]}
    assert await pair.admin(0, "categories/hardware", policy, "PUT") in (200, 201)
    url = f"{pair.proxies[1].proxy.url}/admin/api/categories/hardware"
    async with asyncio.timeout(1):
        while True:
            async with pair.http.get(url) as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(0.01)
    await pair.put(1, question)
    off = {**policy, "mode": "off"}
    assert await pair.admin(1, "categories/hardware", off, "PUT") == 200
    async with asyncio.timeout(1):
        while True:
            if not (await pair.ask(0, question)).hit:
                break
            await asyncio.sleep(0.01)
    await pair.converge([])


async def test_a_leader_that_wakes_up_after_its_lease_stores_nothing_beside_the_next_one(
    pair: Site,
) -> None:
    question = "Which hook holds the lantern?"
    pair.upstream.release.clear()
    calls = len(pair.upstream.calls)
    pair.upstream.play(Script(delay=1.0), Script())
    first = asyncio.create_task(pair.ask(0, question))
    await pair.upstream.until(lambda: len(pair.upstream.calls) == calls + 1)
    pair.proxies[0].send(signal.SIGSTOP)
    try:
        second = await pair.ask(1, question)  # waits for the lease, then leads
        assert second.status == 200
        call = await pair.until_hit(1, question, 1.0)
        assert call == second.call
    finally:
        pair.proxies[0].send(signal.SIGCONT)
    assert (await first).status == 200  # its client gets an answer, which is not stored
    found = await pair.converge([question])
    assert found == {question: call}
    assert len(pair.upstream.calls) == calls + 2
