"""Leases in memory for several replicas in one process, and one that does not answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from store.errors import StoreUnavailable
from store.flight import LeaderGone, LeaderSilent
from store.leases import (
    JOINABLE_SECONDS,
    LANDED_SECONDS,
    LEASE_SECONDS,
    Closed,
    Following,
    Kind,
    Landed,
    Leading,
    NotShareable,
    Piece,
    Standing,
)


def _nothing() -> None:
    pass


@dataclass(eq=False)
class MemoryLease:
    """A lease that lives until it is released, `die`s, or another takes it."""

    hub: Hub
    id: str
    token: int
    pieces: list[Piece] = field(default_factory=list)
    bytes: int = 0
    lost: bool = False
    followers: int = 0
    ended_at: float | None = None
    signed_at: float = 0.0

    def __post_init__(self) -> None:
        self.unwanted: Callable[[], None] = _nothing

    @property
    def wanted(self) -> bool:
        return self.followers > 0

    @property
    def leads(self) -> bool:
        return self.hub.held.get(self.id) is self

    @property
    def too_long(self) -> bool:
        return self.bytes > self.hub.max_buffer

    def publish(self, piece: Piece) -> None:
        if not self.leads:
            self.lost = True
            return
        self.pieces.append(piece)
        self.bytes += len(piece.data)
        self.signed_at = asyncio.get_running_loop().time()
        if piece.kind not in (Kind.HEAD, Kind.CHUNK):
            self.ended_at = self.signed_at
        self.hub.tell()

    async def confirm(self) -> bool:
        return self.leads and not self.lost

    def release(self, *, landed: bool) -> None:
        if self.leads:
            del self.hub.held[self.id]
            if landed:
                until = asyncio.get_running_loop().time() + self.hub.landed_seconds
                self.hub.landed[self.id] = (self.token, until)
            self.hub.tell()

    def die(self) -> None:
        """Let the lease run out, as that of a process which was killed."""
        del self.hub.held[self.id]
        self.hub.tell()


class MemoryPartial:
    """Reads a lease's pieces."""

    def __init__(self, lease: MemoryLease) -> None:
        self._lease = lease
        self._position = 0

    async def __aenter__(self) -> Self:
        self._lease.followers += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lease.followers -= 1
        if not self._lease.wanted:
            self._lease.unwanted()

    async def next(self, patience: float | None = None) -> Piece:
        lease, loop = self._lease, asyncio.get_running_loop()
        while self._position >= len(lease.pieces):
            if not lease.leads:
                raise LeaderGone("died")
            left = None if patience is None else lease.signed_at + patience - loop.time()
            if left is not None and left <= 0:
                raise LeaderSilent("silent")
            changed = lease.hub.changed
            try:
                async with asyncio.timeout(left):
                    await changed.wait()
            except TimeoutError:
                pass
        if lease.too_long and self._position == 0:
            raise NotShareable("too long")
        piece = lease.pieces[self._position]
        self._position += 1
        if piece.kind is Kind.GONE:
            raise LeaderGone("gave up")
        return piece


class Hub:
    """What all replicas share."""

    def __init__(
        self,
        *,
        max_buffer: int = 1 << 20,
        lease_seconds: float = LEASE_SECONDS,
        landed_seconds: float = LANDED_SECONDS,
    ) -> None:
        self.max_buffer = max_buffer
        self.landed_seconds = landed_seconds
        self.held: dict[str, MemoryLease] = {}
        self.landed: dict[str, tuple[int, float]] = {}
        self.changed = asyncio.Event()
        self.tokens = itertools.count(1)

    def tell(self) -> None:
        """Let everybody look again."""
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryLeases:
    """One replica's leases; set `failing` to be told nothing."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.failing = False
        self.asked = 0

    async def acquire(self, id: str, *, mind_landed: bool = True) -> Standing:
        self.asked += 1
        if self.failing:
            raise StoreUnavailable("Redis does not answer")
        now = asyncio.get_running_loop().time()
        held = self.hub.held.get(id)
        if held is not None:
            ended = held.ended_at is not None and now - held.ended_at > JOINABLE_SECONDS
            if ended or held.too_long:
                return Closed(held.token)
            return Following(held.token, MemoryPartial(held))
        token, until = self.hub.landed.get(id, (0, 0.0))
        if mind_landed and now < until:
            return Landed(token)
        lease = MemoryLease(self.hub, id, next(self.hub.tokens), signed_at=now)
        self.hub.held[id] = lease
        return Leading(lease)

    async def aclose(self) -> None:
        """Release nothing: the tests do."""
