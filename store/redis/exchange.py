"""Several commands in one round trip, each answered or refused for itself.

As redis-py's pipeline, without its second try: a write that may have taken effect is not repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf
from typing import Any

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import ResponseError

Command = Sequence[bytes | str | int]
Reply = Any  # what the server answered, or the ResponseError with which it refused


async def exchange(client: Redis, commands: Sequence[Command]) -> list[Reply]:
    """Return the replies in the order of the commands, which one connection takes in order.

    To be called through RedisConnection.ask, whose budget is for all of it: no reply has a time
    limit of its own. Raises ConnectionError, TimeoutError. A call that is cut off gives up its
    connection, so that nobody else reads its replies.
    """
    if not commands:
        return []
    task = asyncio.current_task()
    asked = task.cancelling() if task is not None else 0
    pool = client.connection_pool
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        packed = b"".join(
            pack_command(tuple(command))  # type: ignore[arg-type]  # its stub means any length
            for command in commands
        )
        await connection.send_packed_command(packed, check_health=False)
        if task is not None and task.cancelling() > asked:
            # It came as the command had just been sent, and asyncio.wait_for lost it (before Python
            # 3.12): what follows would wait for a silent server without end.
            raise asyncio.CancelledError
        replies: list[Reply] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response(timeout=inf))
            except ResponseError as error:
                replies.append(error)
        return replies
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


async def reply_to(client: Redis, *command: bytes | str | int) -> Any:
    """Return the reply to one command; raises ResponseError too."""
    (reply,) = await exchange(client, [command])
    if isinstance(reply, ResponseError):
        raise reply
    return reply
