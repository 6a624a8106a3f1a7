"""Commands in one round trip, and what becomes of one that is cut off."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from redis.asyncio import Redis

from store.redis.exchange import exchange


class Silent:
    """A client, its pool and its connection; nothing ever answers.

    As `asyncio.wait_for` of Python 3.11 may, which redis-py sends with, it loses a cancellation
    that comes just as the command has been sent.
    """

    def __init__(self) -> None:
        self.connection_pool = self
        self.dropped = False

    async def get_connection(self) -> Silent:
        return self

    async def release(self, connection: Silent) -> None:
        return None

    async def send_packed_command(self, packed: bytes, check_health: bool) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return

    async def read_response(self, **_: float) -> Any:
        await asyncio.Event().wait()

    async def disconnect(self, nowait: bool) -> None:
        self.dropped = True


async def test_a_cancellation_that_was_lost_while_sending_ends_the_call_all_the_same() -> None:
    silent = Silent()

    async def asked() -> str:
        try:
            async with asyncio.timeout(0.01):
                await exchange(cast(Redis, silent), [("PING",)])
        except TimeoutError:
            return "cut off"
        return "answered"

    call = asyncio.create_task(asked())
    await asyncio.wait([call], timeout=1)
    ended = call.done()
    call.cancel()
    assert ended and await call == "cut off"
    assert silent.dropped  # nobody else reads what comes
