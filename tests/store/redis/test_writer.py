from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from store.errors import StoreUnavailable
from store.redis.exchange import Command, reply_to
from store.redis.writer import OrderedWriter, Steps
from tests.redis_stores import ServerOf, connected


@pytest.fixture
async def writer(redis_server: ServerOf) -> AsyncIterator[OrderedWriter]:
    async with connected(redis_server("7")) as connection:
        await connection.ask(lambda client: client.flushall())
        writer = OrderedWriter(connection, max_writes=100, max_bytes=1000)
        yield writer
        await writer.aclose()


def push(value: str, *first: Command) -> Steps:
    return Steps(first, lambda _: ("RPUSH", "list", value))


async def pushed(client: Redis) -> list[bytes]:
    found: list[bytes] = await reply_to(client, "LRANGE", "list", 0, -1)
    return found


async def test_writes_of_every_kind_keep_their_order(writer: OrderedWriter) -> None:
    slow: asyncio.Future[Steps] = asyncio.get_running_loop().create_future()

    async def work(client: Redis) -> str:
        await reply_to(client, "RPUSH", "list", "work")
        return "worked"

    writes = [
        writer.submit(push("a")),
        writer.submit(slow),
        writer.submit(push("c")),
        writer.submit(work),
        writer.submit(push("d")),
    ]
    asyncio.get_running_loop().call_later(0.01, slow.set_result, push("b"))
    assert await asyncio.gather(*writes) == [1, 2, 3, "worked", 5]
    assert await writer.submit(pushed) == [b"a", b"b", b"c", b"work", b"d"]


async def test_the_second_half_sees_the_replies_to_the_first(writer: OrderedWriter) -> None:
    seen: list[object] = []

    def then(replies: list[object]) -> Command:
        seen.extend(replies)
        return ("PING",)

    await writer.submit(Steps((("SET", "x", 1), ("INCR", "x")), then))
    assert seen == [b"OK", 2]


async def test_a_refused_first_half_is_not_followed_by_the_second_and_harms_no_other(
    writer: OrderedWriter,
) -> None:
    async def refused(client: Redis) -> None:
        await reply_to(client, "NOCOMMAND")

    outcomes = await asyncio.gather(
        writer.submit(push("a")),
        writer.submit(push("never", ("NOCOMMAND",))),
        writer.submit(refused),
        writer.submit(push("b")),
        return_exceptions=True,
    )
    assert [isinstance(each, StoreUnavailable) for each in outcomes] == [False, True, True, False]
    assert await writer.submit(pushed) == [b"a", b"b"]


async def test_what_waits_is_bounded_in_bytes_and_room_comes_back(writer: OrderedWriter) -> None:
    first = writer.submit(push("a"), size=800)
    with pytest.raises(StoreUnavailable, match="1 writes of 800 bytes already wait"):
        writer.submit(push("b"), size=300)
    await first
    await writer.submit(push("b"), size=300)


async def test_closing_finishes_what_was_accepted(writer: OrderedWriter) -> None:
    write = writer.submit(push("a"))
    await writer.aclose()
    assert write.result() == 1
    with pytest.raises(StoreUnavailable, match="closed"):
        writer.submit(push("b"))
