"""Which version of keys and values a Redis holds; one of another version is never touched."""

from __future__ import annotations

import logging

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from store.errors import StoreUnavailable
from store.redis.connection import RedisConnection
from store.redis.exchange import exchange, reply_to
from store.redis.keys import Keys

logger = logging.getLogger(__name__)

VERSION = 1


async def prepare(connection: RedisConnection, keys: Keys) -> None:
    """Make sure that what is under the keys is of this version, or nothing yet.

    Raises StoreUnavailable for another version, and when the server cannot be asked. Warns of a
    server that would evict the journal to make room.
    """
    version, policy = await connection.ask(
        lambda client: exchange(
            client, [("GET", keys.schema), ("CONFIG", "GET", "maxmemory-policy")]
        )
    )
    if isinstance(version, ResponseError):
        raise StoreUnavailable(f"Redis refused: {version}")
    if version is None:
        await claim(connection, keys)
    else:
        check(version, keys)
    if isinstance(policy, ResponseError):
        return  # no right to ask, and nothing depends on it
    flat = list(policy.values()) if isinstance(policy, dict) else list(policy)[1:]
    if flat and flat[0].startswith(b"allkeys-"):
        logger.warning(
            "Redis has maxmemory-policy %s, which may evict the journal of purges: noeviction or"
            " volatile-ttl does not",
            flat[0].decode(),
        )


async def claim(connection: RedisConnection, keys: Keys) -> None:
    """Write the version where there is none: proof that the server can be read and written.

    Raises StoreUnavailable, also for another version.
    """

    async def write(client: Redis) -> bytes | None:
        found: bytes | None = await reply_to(client, "SET", keys.schema, VERSION, "NX", "GET")
        return found

    found = await connection.ask(write)
    if found is not None:
        check(found, keys)


def check(version: bytes, keys: Keys) -> None:
    """Raise StoreUnavailable unless this is our version."""
    if version != b"%d" % VERSION:
        raise StoreUnavailable(
            f"Redis has schema version {version.decode(errors='replace')} under prefix"
            f" {keys.prefix!r}; this Nearhit reads version {VERSION}. Use the Nearhit that wrote"
            " it, or another prefix"
        )
