"""The way to one Redis server: a bounded pool, and a budget of time for every call.

While the server does not answer, calls that a client waits for fail at once but for a probe now
and then: a request may wait for one such call, not for all that it would make.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from store.errors import StoreUnavailable

T = TypeVar("T")

MAX_CONNECTIONS = 32
REQUEST_SECONDS = 0.05  # for a call that a client waits for
WRITE_SECONDS = 2.0  # for any other
PROBE_SECONDS = 0.2  # between two probes of a server that does not answer
NO_ANSWER = (exceptions.ConnectionError, exceptions.TimeoutError)


class RedisConnection:
    """A client of one server. Belongs to one event loop."""

    def __init__(
        self,
        client: Redis,
        *,
        request_seconds: float = REQUEST_SECONDS,
        write_seconds: float = WRITE_SECONDS,
        on_fault: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_fault` is told of every call that failed."""
        self.client = client
        self.request_seconds = request_seconds
        self.write_seconds = write_seconds
        self._on_fault = on_fault
        self._silent_until = 0.0  # loop time; 0: it answered the last call

    @classmethod
    def to(
        cls,
        url: str,
        *,
        username: str = "",
        password: str = "",
        ca_certs: str = "",
        request_seconds: float = REQUEST_SECONDS,
        write_seconds: float = WRITE_SECONDS,
        max_connections: int = MAX_CONNECTIONS,
        on_fault: Callable[[], None] = lambda: None,
    ) -> Self:
        """Return a connection for a `redis://`, `rediss://` or `unix://` URL; nothing connects yet.

        A user name and password given here win over those in the URL. Raises ValueError for a URL
        that redis-py cannot read.
        """
        options: dict[str, object] = {
            "socket_connect_timeout": write_seconds,
            "socket_timeout": write_seconds,
            "retry": Retry(NoBackoff(), 1),  # a connection that the server closed meanwhile
            "max_connections": max_connections,
            "timeout": write_seconds,
        }
        if username:
            options["username"] = username
        if password:
            options["password"] = password
        if ca_certs:
            options["ssl_ca_certs"] = ca_certs
        pool = BlockingConnectionPool.from_url(url, **options)
        return cls(
            Redis(connection_pool=pool),
            request_seconds=request_seconds,
            write_seconds=write_seconds,
            on_fault=on_fault,
        )

    async def ask(self, call: Callable[[Redis], Awaitable[T]]) -> T:
        """Return what `call` gets from the server within `write_seconds`.

        Raises StoreUnavailable. A call that was cut off may have taken effect.
        """
        return await self._ask(call, self.write_seconds)

    async def ask_soon(self, call: Callable[[Redis], Awaitable[T]]) -> T:
        """Return what `call` gets within `request_seconds`: for what a client waits for.

        Raises StoreUnavailable, and at once while the server is known not to answer.
        """
        now = asyncio.get_running_loop().time()
        if now < self._silent_until:
            raise StoreUnavailable("Redis does not answer")
        if self._silent_until:
            self._silent_until = now + PROBE_SECONDS  # this call is the probe
        return await self._ask(call, self.request_seconds)

    async def _ask(self, call: Callable[[Redis], Awaitable[T]], seconds: float) -> T:
        try:
            async with asyncio.timeout(seconds):
                answer = await call(self.client)
        except (TimeoutError, OSError, *NO_ANSWER) as error:
            self._silent_until = asyncio.get_running_loop().time() + PROBE_SECONDS
            self._on_fault()
            raise StoreUnavailable(f"Redis does not answer: {error or 'timeout'}") from error
        except exceptions.RedisError as error:  # out of memory, read-only, no rights
            self._silent_until = 0.0
            self._on_fault()
            raise StoreUnavailable(f"Redis refused: {error}") from error
        self._silent_until = 0.0
        return answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()
        await self.client.connection_pool.disconnect()
