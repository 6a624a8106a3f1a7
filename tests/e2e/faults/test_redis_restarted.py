"""Redis dies and comes back: with all it knew, with nothing, and with what it knew before."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from tests.e2e.faults.site import MAX_STALENESS, Site
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.serial

AOF = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
RDB = ("--save", "", "--appendonly", "no")


async def two(site: Site, server: RedisServer) -> None:
    """Start two replicas."""
    site.proxy(server.url)
    site.proxy(server.url)
    await site.ready()


async def filled(site: Site, name: str, count: int = 30) -> list[str]:
    """Store answers, on both replicas by turns, which both hold on return."""
    questions = [f"What is in {name} {number}?" for number in range(count)]
    for number, question in enumerate(questions):
        await site.put(number % 2, question)
    for question in questions:
        await site.until_hit(0, question, 2)
        await site.until_hit(1, question, 2)
    return questions


async def purged(site: Site, questions: list[str]) -> dict[str, str]:
    """Purge on one replica; return which calls must not be served any more."""
    gone = await site.answers(1, questions)
    for question in questions:
        assert await site.purge(0, prefix=question) == 200
    assert set((await site.answers(1, questions)).values()) == {""}
    return gone


async def restarted(site: Site, server: RedisServer, questions: list[str]) -> None:
    """kill -9 Redis and start it again, while clients ask."""
    stop = asyncio.Event()

    async def client(replica: int) -> None:
        while not stop.is_set():
            for question in questions:
                told = await site.ask(replica, question)
                assert told.status == 200
                assert told.seconds < 1.0

    clients = [asyncio.create_task(client(replica)) for replica in (0, 1)]
    server.kill()
    for replica in (0, 1):
        await site.failing(replica, "journal", MAX_STALENESS + 2)
        assert await site.faults(replica, "redis") > 0
    await asyncio.to_thread(server.start)
    await site.ready()
    stop.set()
    await asyncio.gather(*clients)


def served_again(found: dict[str, str], gone: dict[str, str]) -> list[str]:
    """Return the questions that are answered with what was purged."""
    return [question for question, call in gone.items() if call and found[question] == call]


@pytest.mark.slow
async def test_with_persistence_nothing_is_lost(site: Site) -> None:
    server = await site.redis(*AOF)
    await two(site, server)
    kept, taken = await filled(site, "crate"), await filled(site, "sack", 10)
    before, gone = await site.answers(0, kept), await purged(site, taken)
    await restarted(site, server, ["What is in the cellar?"])
    found = await site.converge([*kept, *taken])
    assert {question: found[question] for question in kept} == before
    assert not served_again(found, gone)
    told = await site.put(0, "What is in a new crate?")
    assert await site.until_hit(1, "What is in a new crate?", 1) == told.call


@pytest.mark.slow
async def test_an_emptied_one_may_lose_entries_but_brings_no_purged_answer_back(
    site: Site,
) -> None:
    server = await site.redis(version="8")
    await two(site, server)
    kept, taken = await filled(site, "crate"), await filled(site, "sack", 10)
    gone = await purged(site, taken)
    await restarted(site, server, ["What is in the cellar?"])
    found = await site.converge([*kept, *taken])
    assert not served_again(found, gone)
    for replica, question in enumerate(taken[:2]):  # a new answer may be stored in its place
        told = await site.put(replica, question)
        assert await site.until_hit(1 - replica, question, 1) == told.call


@pytest.mark.slow
async def test_one_that_comes_back_with_an_old_dump_brings_no_purged_answer_back(
    site: Site,
) -> None:
    server = await site.redis(*RDB)
    await two(site, server)
    kept, taken = await filled(site, "crate"), await filled(site, "sack", 10)
    stopped = await filled(site, "urn", 3)
    async with Redis.from_url(server.url) as client:
        await client.save()
    gone = await purged(site, taken)
    for question in stopped:
        entry = (await site.ask(0, question)).entry
        assert await site.admin(0, f"entries/{entry}/quarantine", {}) == 200
    await filled(site, "barrel", 10)  # lost with the old dump
    await restarted(site, server, ["What is in the cellar?"])
    found = await site.converge([*kept, *taken, *stopped])
    assert all(found[question] for question in kept)
    assert not served_again(found, gone)
    assert {found[question] for question in stopped} == {""}
