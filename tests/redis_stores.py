"""Document stores in the Redis servers of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from store.redis.connection import RedisConnection
from store.redis.documents import RedisDocuments
from store.redis.keys import Keys
from tests.redis_servers import RedisServer

ServerOf = Callable[[str], RedisServer]  # by version
KEYS = Keys("test")


@asynccontextmanager
async def redis_documents(server: RedisServer, **options: Any) -> AsyncIterator[RedisDocuments]:
    """Yield a store in the server, which is emptied first."""
    async with connected(server) as connection:
        await connection.ask(lambda client: client.flushall())
        store = await RedisDocuments.open(connection, keys=KEYS, **({"origin": "one"} | options))
        try:
            yield store
        finally:
            await store.aclose()


@asynccontextmanager
async def connected(
    server: RedisServer, *, request_seconds: float = 2.0, **options: Any
) -> AsyncIterator[RedisConnection]:
    """Yield a connection; its budgets suit a busy machine unless others are given."""
    connection = RedisConnection.to(server.url, request_seconds=request_seconds, **options)
    try:
        yield connection
    finally:
        await connection.aclose()
