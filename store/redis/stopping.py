"""Ending a task that talks to Redis, whatever becomes of the first word."""

from __future__ import annotations

import asyncio

_AGAIN = 1.0  # seconds


async def stop(*tasks: asyncio.Task[None]) -> None:
    """Cancel the tasks and wait until all have ended.

    A cancellation that comes just as what a task waits for is done can be lost on the way through
    a client library; one that is not repeated would then be waited for without end.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_AGAIN)
