"""All entries in the order in which they were put, and what is found of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from store.entry import EntryId
from store.errors import StoreUnavailable
from store.redis.appending import THOUGH_FULL
from store.redis.codec import Answer
from store.redis.connection import RedisConnection
from store.redis.exchange import Command, exchange, reply_to
from store.redis.keys import Keys

# A script answers both protocols of Redis alike: names and numbers in turn.
_LIMITED = "'WITHSCORES', 'LIMIT', 0, ARGV[2])"
OLDEST_FIRST = f"return redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', {_LIMITED}"
NEWEST_FIRST = f"return redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[1], '-inf', {_LIMITED}"
# Only what has not been put again since: its document was written before its number.
DROP = """
for i = 1, #ARGV, 2 do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
"""


class Place(NamedTuple):
    """An entry and the number of its put."""

    id: EntryId
    number: int


async def places(
    connection: RedisConnection, key: str, script: str, bound: str, limit: int
) -> list[Place]:
    """Return up to `limit` places on from a bound, which is as ZRANGEBYSCORE has it."""
    flat: list[bytes] = await connection.ask(
        lambda client: reply_to(client, "EVAL", script, 1, key, bound, limit)
    )
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [Place(EntryId(id.decode()), int(float(number))) for id, number in pairs]


async def fields_of(
    connection: RedisConnection, keys: Keys, found: Sequence[Place], fields: Sequence[bytes]
) -> list[Answer]:
    """Return the fields of entries' hashes, each None for one that is gone.

    Raises StoreUnavailable.
    """
    commands: list[Command] = [("HMGET", keys.entry(place.id), *fields) for place in found]

    async def read(client: Redis) -> list[Answer]:
        answers = await exchange(client, commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    return await connection.ask(read)


async def drop(connection: RedisConnection, key: str, gone: Sequence[Place]) -> None:
    """Forget places whose documents have expired or vanished; a failure leaves them for later."""
    arguments: list[str | int] = []
    for place in gone:
        arguments += (place.id, place.number)
    if not arguments:
        return
    try:
        await connection.ask(
            lambda client: reply_to(client, "EVAL", THOUGH_FULL + DROP, 1, key, *arguments)
        )
    except StoreUnavailable:
        return
