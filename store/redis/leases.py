"""Leases in Redis. See `store/leases.py` for what they mean, `lease_scripts.py` for the keys."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from store.errors import StoreUnavailable
from store.flight import MAX_BUFFER
from store.leases import (
    JOINABLE_SECONDS,
    LANDED_SECONDS,
    LEASE_SECONDS,
    RENEWAL_SECONDS,
    Closed,
    Following,
    Landed,
    Leading,
    Standing,
)
from store.redis.clock import now
from store.redis.connection import RedisConnection
from store.redis.lease_scripts import ACQUIRE, flight_key
from store.redis.outgoing import Press, RedisLease
from store.redis.partial import Followers, RedisPartial
from store.redis.stopping import stop

_TOKEN_SECONDS = 600.0  # that a flight's last token is kept; after it the clock alone has to grow
_CLOSING_SECONDS = 1.0  # to release what is held


class RedisLeases:
    """The leases of this process. Belongs to one event loop.

    Three connections are in use at most, but for those that acquire or confirm: one that
    publishes, one that follows, one that renews.
    """

    def __init__(
        self,
        connection: RedisConnection,
        *,
        prefix: str = "nearhit",
        max_buffer: int = MAX_BUFFER,
        lease_seconds: float = LEASE_SECONDS,
        renewal_seconds: float = RENEWAL_SECONDS,
        landed_seconds: float = LANDED_SECONDS,
    ) -> None:
        """`max_buffer` bounds the bytes of one answer that are kept for followers."""
        self._connection = connection
        self._prefix = prefix
        self._max_buffer = max_buffer
        self._lease_seconds = lease_seconds
        self._renewal_seconds = renewal_seconds
        self._press = Press(connection, lease_seconds=lease_seconds, landed_seconds=landed_seconds)
        self._followers = Followers(connection, lease_seconds=lease_seconds)
        self._held: dict[str, RedisLease] = {}  # by flight: the last one of this process
        self._renewing: asyncio.Task[None] | None = None

    async def acquire(self, id: str, *, mind_landed: bool = True) -> Standing:
        """Say who leads under an exact key; see `Leases.acquire`."""
        flight, nonce = flight_key(self._prefix, id), _nonce()
        await self._let_ours_go(flight)
        asked = False

        async def call(client: Any) -> Any:
            nonlocal asked
            asked = True
            keys = [f"{flight}:{name}" for name in ("lease", "token", "landed")]
            times = [JOINABLE_SECONDS, _TOKEN_SECONDS]
            lease_ms = int(self._lease_seconds * 1000)
            arguments = [nonce, lease_ms, int(mind_landed), *(int(s * 1000) for s in times)]
            return await client.execute_command("EVAL", ACQUIRE, len(keys), *keys, *arguments)

        until = now() + self._lease_seconds
        try:
            what, token, silent = await self._connection.ask_soon(call)
        except (StoreUnavailable, asyncio.CancelledError):
            if asked:  # the server may hear of it yet, and give the lease to nobody
                self._lease(flight, nonce, "", until).release(landed=False)
            raise
        match what:
            case b"leading":
                return Leading(self._lead(self._lease(flight, nonce, token, until)))
            case b"following":
                number = token.decode()
                partial = RedisPartial(self._followers, flight, number, int(silent) / 1000)
                return Following(int(token), partial)
            case b"landed":
                return Landed(int(token))
        return Closed(int(token))

    async def aclose(self) -> None:
        """Release what is held, as far as there is time, and let go of everything."""
        if self._renewing is not None:
            await stop(self._renewing)
        for lease in self._held.values():
            lease.release(landed=False)
        await self._followers.aclose()
        await self._press.aclose(_CLOSING_SECONDS)

    def _lease(self, flight: str, nonce: str, token: str, until: float) -> RedisLease:
        return RedisLease(
            flight, nonce, token, held_until=until, max_buffer=self._max_buffer, press=self._press
        )

    def _lead(self, lease: RedisLease) -> RedisLease:
        self._held[lease.flight] = lease
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="nearhit-lease-renewal")
        return lease

    async def _let_ours_go(self, flight: str) -> None:
        """Wait a little for a lease of our own on its way out: nobody should follow itself."""
        ours = self._held.get(flight)
        if ours is not None and ours.released_at is not None and not ours.gone.is_set():
            try:
                async with asyncio.timeout(self._connection.request_seconds):
                    await ours.gone.wait()
            except TimeoutError:
                raise StoreUnavailable("a lease is still on its way back") from None

    async def _renew(self) -> None:
        """Renew everything that is held, together; forget what is not."""
        while self._held:
            await asyncio.sleep(self._renewal_seconds)
            for lease in list(self._held.values()):
                if lease.lost or lease.gone.is_set():
                    del self._held[lease.flight]
            held = [lease for lease in self._held.values() if lease.released_at is None]
            if not held:
                continue
            try:
                await self._press.renew(held)
            except StoreUnavailable:
                continue  # tried again until it is too late, which `confirm` sees
            for lease in held:
                if not lease.wanted:
                    lease.unwanted()


def _nonce() -> str:
    return secrets.token_hex(8)
