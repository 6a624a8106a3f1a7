"""What this process follows of other replicas' leaders: one task reads it all.

However many are followed, one connection is used. Whoever takes pieces slower than they come is
left out of the reading until it has caught up.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis

from store.errors import StoreUnavailable
from store.flight import LeaderGone, LeaderSilent
from store.leases import Kind, NotShareable, Piece
from store.redis.connection import PROBE_SECONDS, RedisConnection
from store.redis.lease_scripts import WATCH
from store.redis.stopping import stop

_BLOCK_MS = 25  # that one read waits: a newcomer is in the next one
_WATCH_SECONDS = 0.25  # between two looks at whether the leaders still lead
_AT_ONCE = 64  # pieces of a leader that one read brings
_AHEAD = 1024 * 1024  # bytes that are read before they are taken


class RedisPartial:
    """One leader's output, followed from its first piece on."""

    def __init__(self, followers: Followers, flight: str, token: str, silent: float) -> None:
        """`silent` is for how many seconds the leader has given no sign."""
        self.lease = f"{flight}:lease"
        self.out = f"{flight}:out:{token}"
        self.token = token
        self.position = 0  # number of the last piece that was read
        self.orphaned = False  # its leader was seen not to lead any more
        self.ended = False
        self.seen_at = asyncio.get_running_loop().time()  # when its leader was last known to lead
        self._followers = followers
        self._last_sign = self.seen_at - silent
        self._pieces: deque[Piece] = deque()
        self._bytes = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        self._followers.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._followers.drop(self)

    @property
    def hungry(self) -> bool:
        """Whether more should be read for it."""
        return not self.ended and self._bytes < _AHEAD

    async def next(self, patience: float | None = None) -> Piece:
        """Return the next piece; see `Partial.next`."""
        loop = asyncio.get_running_loop()
        while not self._pieces:
            if self._error is not None:
                raise self._error
            deadline = math.inf if patience is None else self._last_sign + patience
            if loop.time() >= deadline:
                raise LeaderSilent(f"the leader has been silent for {patience:g} s")
            self._waiter = loop.create_future()
            timer = loop.call_at(deadline, self._wake) if deadline < math.inf else None
            try:
                await self._waiter
            finally:
                if timer is not None:
                    timer.cancel()
        piece = self._pieces.popleft()
        self._bytes -= len(piece.data)
        if piece.kind is Kind.GONE:
            raise LeaderGone("the leader on another replica gave up")
        return piece

    def take(self, number: int, piece: Piece) -> None:
        """Take a piece that was read; one that it has already is passed over."""
        if self.ended or number <= self.position:
            return
        if number > self.position + 1:
            self.fail(NotShareable("the answer's beginning is no longer kept"))
            return
        self.position = number
        self._pieces.append(piece)
        self._bytes += len(piece.data)
        self._last_sign = self.seen_at = asyncio.get_running_loop().time()
        self.ended = piece.kind not in (Kind.HEAD, Kind.CHUNK)
        self._wake()

    def fail(self, error: Exception) -> None:
        """End it; pieces that were read before are taken first."""
        if not self.ended:
            self.ended, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Followers:
    """Reads for everybody in this process who follows a leader elsewhere."""

    def __init__(self, connection: RedisConnection, *, lease_seconds: float) -> None:
        self._connection = connection
        self._lease_seconds = lease_seconds
        self._partials: set[RedisPartial] = set()
        self._watched_at = -math.inf
        self._task: asyncio.Task[None] | None = None

    def add(self, partial: RedisPartial) -> None:
        """Read for one more."""
        self._partials.add(partial)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="nearhit-lease-followers")

    def drop(self, partial: RedisPartial) -> None:
        """Read no more for one."""
        self._partials.discard(partial)

    async def aclose(self) -> None:
        """Stop; whoever still follows is told that its leader is gone."""
        for partial in self._partials:
            partial.fail(LeaderGone("closing"))
        if self._task is not None:
            await stop(self._task)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._partials:
            orphaned = {partial for partial in self._partials if partial.orphaned}
            before = {partial: partial.position for partial in orphaned}
            try:
                await self._read()
                for partial in orphaned:  # its end may have come just before it let go
                    if partial.hungry and partial.position == before[partial]:
                        partial.fail(LeaderGone("the leader on another replica died"))
                if loop.time() - self._watched_at >= _WATCH_SECONDS:
                    await self._watch()
            except StoreUnavailable:
                for partial in self._partials:
                    if loop.time() - partial.seen_at > self._lease_seconds:
                        partial.fail(LeaderGone("nothing is heard of the leader: no Redis"))
                await asyncio.sleep(PROBE_SECONDS)

    async def _read(self) -> None:
        hungry = [partial for partial in self._partials if partial.hungry]
        positions: dict[str, int] = {}
        for partial in hungry:
            positions[partial.out] = min(partial.position, positions.get(partial.out, 1 << 53))
        if not positions:
            await asyncio.sleep(_BLOCK_MS / 1000)
            return
        arguments: list[Any] = ["COUNT", _AT_ONCE, "BLOCK", _BLOCK_MS, "STREAMS", *positions]
        arguments += [f"{position}-0" for position in positions.values()]

        async def call(client: Any) -> Any:
            return await client.execute_command("XREAD", *arguments)

        for name, found in await self._connection.ask(call) or ():
            for id, fields in found:
                ((kind, data),) = fields.items()
                number, piece = int(id.partition(b"-")[0]), Piece(Kind(kind.decode()), data)
                for partial in hungry:
                    if partial.out == name.decode():
                        partial.take(number, piece)

    async def _watch(self) -> None:
        """Tell the leaders that somebody follows, and see which of them no longer lead."""
        watched = [partial for partial in self._partials if not partial.ended]

        async def call(client: Redis) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for partial in watched:
                pipeline.eval(WATCH, 1, partial.lease, partial.token)
            leads: list[Any] = await pipeline.execute(raise_on_error=False)
            return leads

        leads = await self._connection.ask(call) if watched else []
        self._watched_at = asyncio.get_running_loop().time()
        for partial, still in zip(watched, leads, strict=True):
            if still == 1:
                partial.seen_at = self._watched_at
            elif still == 0:
                partial.orphaned = True
