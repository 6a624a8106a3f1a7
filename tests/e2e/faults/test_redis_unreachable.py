"""Redis is held up, or one proxy is cut off from it: answers flow, and nothing stale is served."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.e2e.faults.relay import Relay
from tests.e2e.faults.site import MAX_STALENESS, Site, Told

pytestmark = pytest.mark.serial

HELD_UP = 5.0  # seconds
LATE = 0.3  # seconds beyond the upstream's that an answer may take
# The clocks of this process and of the proxies, and what asking takes, on a busy machine.
SLACK = 0.5


@asynccontextmanager
async def asked_all_the_time(
    site: Site, replica: int, questions: list[str]
) -> AsyncIterator[list[tuple[float, Told]]]:
    """Have a client ask; give what it is told, with the time at which it asked."""
    told: list[tuple[float, Told]] = []
    stop = asyncio.Event()

    async def client() -> None:
        number = 0
        while not stop.is_set():
            for question in [*questions, f"What is new, for the {number}th time?"]:
                asked = time.monotonic()
                told.append((asked, await site.ask(replica, question)))
            number += 1
            await asyncio.sleep(0.02)

    asking = asyncio.create_task(client())
    try:
        yield told
    finally:
        stop.set()
        await asking


@pytest.mark.slow
async def test_while_redis_is_held_up_answers_come_in_time_and_none_is_stale(site: Site) -> None:
    server = await site.redis()
    site.proxy(server.url)
    site.proxy(server.url)
    await site.ready()
    questions = [f"What is in bin {number}?" for number in range(5)]
    for question in questions:
        await site.put(0, question)
        await site.until_hit(1, question, 2)
    async with (
        asked_all_the_time(site, 0, questions) as first,
        asked_all_the_time(site, 1, questions) as second,
    ):
        since = time.monotonic()
        server.send(signal.SIGSTOP)
        try:
            for replica in (0, 1):
                await site.failing(replica, "journal", MAX_STALENESS + 1)
                await site.failing(replica, "store", 4)
            await asyncio.sleep(since + HELD_UP - time.monotonic())
            faults = [await site.faults(replica, "redis") for replica in (0, 1)]
        finally:
            server.send(signal.SIGCONT)
        again = time.monotonic()
        await site.ready()
    assert min(faults) > 0
    for told in (first, second):
        slow = [each.seconds for _, each in told if each.seconds > LATE]
        assert not slow, slow
        stale = [at - since for at, each in told if each.hit and since + MAX_STALENESS < at < again]
        assert not stale, stale
        assert any(each.hit for at, each in told if since < at < since + MAX_STALENESS / 2)
        assert all(each.status == 200 for _, each in told)
    found = await site.converge(questions)
    assert all(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["drop", "close"])
async def test_one_that_is_cut_off_serves_nothing_that_the_other_has_purged(
    site: Site, kind: str
) -> None:
    server = await site.redis()
    async with Relay(server.port) as relay:
        site.proxy(server.url)
        site.proxy(f"redis://127.0.0.1:{relay.port}/0")
        await site.ready()
        questions = [f"What is in bin {number}?" for number in range(4)]
        for question in questions:
            await site.put(0, question)
            await site.until_hit(1, question, 2)
        gone = await site.answers(1, questions)
        async with asked_all_the_time(site, 1, questions) as told:
            getattr(relay, kind)()
            sent = time.monotonic()
            for number in (0, 1):
                assert await site.purge(0, prefix=questions[number]) == 200
                assert time.monotonic() - sent < MAX_STALENESS + 1
            acknowledged = time.monotonic()
            await site.failing(1, "journal", MAX_STALENESS + 1)
            assert (await site.readiness(0))[0] == 200
            await asyncio.sleep(0.5)
            mended = time.monotonic()
            relay.mend()
            await site.ready()
        assert not [
            at - acknowledged
            for at, each in told
            if at > acknowledged
            and each.hit
            and each.call in set(gone.values())
            and any(question in each.text for question in questions[:2])
        ]
        assert not [at for at, each in told if each.hit and acknowledged + SLACK < at < mended]
        slow = [each.seconds for _, each in told if each.seconds > LATE]
        assert not slow, slow
        found = await site.converge(questions)
        assert all(found[question] == gone[question] for question in questions[2:])
        assert all(found[question] != gone[question] for question in questions[:2])
