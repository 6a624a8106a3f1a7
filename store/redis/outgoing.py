"""What the leaders of this process publish: one task sends it all, a round trip at a time.

Whatever came during the last round trip goes out with the next one, so nobody who publishes waits,
and however many lead, one connection is used. Sending a piece twice changes nothing, so what was
cut off is sent again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis

from store.errors import StoreUnavailable
from store.leases import LEASE_SECONDS, Kind, Piece
from store.redis.clock import now
from store.redis.connection import PROBE_SECONDS, RedisConnection
from store.redis.lease_scripts import PUBLISH, RELEASE, RENEW
from store.redis.stopping import stop

OUTPUT_SECONDS = 10.0  # that the output of a leader which says nothing more is kept
READ_SECONDS = 5.0  # that those who follow have to read the rest after the release
GIVEN_UP_SECONDS = 30.0  # after which a release that nobody took is forgotten: the lease is too
_PIECE = 64 * 1024  # bytes of chunks that become one piece
_BATCH = 256 * 1024  # bytes of one leader's pieces in one round trip
_AT_ONCE = 64  # leaders in one round trip

log = logging.getLogger(__name__)


class RedisLease:
    """A lease with what is yet to be published under it. Times but `held_until` are loop times."""

    def __init__(
        self,
        flight: str,
        nonce: str,
        token: str,
        *,
        held_until: float,
        max_buffer: int,
        press: Press,
    ) -> None:
        """`token` is "" when the answer to the acquisition was late: then it can be let go of."""
        self.flight = flight
        self.nonce = nonce
        self.token = int(token or 0)
        self.lost = False
        self.unwanted: Callable[[], None] = lambda: None
        self.held_until = held_until
        self.released_at: float | None = None
        self.landed = False
        self.gone = asyncio.Event()  # nothing more will be sent
        self._press = press
        self._max_buffer = max_buffer
        self._pending: deque[Piece] = deque()
        self._pending_bytes = 0
        self._batch: list[Piece] = []  # being sent, until it is known to have arrived
        self._first = 1  # number of the batch's first piece
        self._skipped = 0  # numbers to leave out after the batch
        self._kept: deque[tuple[int, int]] = deque()  # number and bytes of what Redis keeps
        self._kept_bytes = 0
        self._oldest = 1  # number of the oldest piece that is to be kept
        self._followed_at = float("-inf")

    @property
    def wanted(self) -> bool:
        """Whether another replica followed lately, as far as is known."""
        return asyncio.get_running_loop().time() - self._followed_at < LEASE_SECONDS

    def publish(self, piece: Piece) -> None:
        """Have a piece sent. What Redis takes too slowly is left out, and followers see the gap."""
        if self.lost or self.released_at is not None:
            return
        self._pending.append(piece)
        self._pending_bytes += len(piece.data)
        if self._pending_bytes > self._max_buffer:
            self._pending.clear()
            self._pending_bytes = 0
            self._skip()
        self._press.push(self)

    async def confirm(self) -> bool:
        """Whether the lease is still ours; see `Lease.confirm`."""
        if self.lost:
            return False
        try:
            await self._press.renew([self], soon=True)
        except StoreUnavailable:
            return now() < self.held_until
        return not self.lost

    def release(self, *, landed: bool) -> None:
        """Let go, once what was published is out."""
        if self.released_at is None:
            self.released_at = asyncio.get_running_loop().time()
            self.landed = landed
            if self.lost:
                self.gone.set()
            self._press.push(self)

    def commands(self) -> list[tuple[str, list[str], list[Any]]]:
        """Return what is to be sent now: scripts with keys and arguments, in order; [] if nothing.

        Until `arrived` is called it is the same, but that more may follow.
        """
        commands: list[tuple[str, list[str], list[Any]]] = []
        out = f"{self.flight}:out:{self.token}"
        if not self._batch:
            self._fill()
        if self._batch:
            keep, pieces = int(OUTPUT_SECONDS * 1000), [x for piece in self._batch for x in piece]
            arguments = [self.token, keep, self._oldest, self._first, *pieces]
            commands.append((PUBLISH, [f"{self.flight}:lease", out], arguments))
        if self.released_at is not None and not self._pending:
            landed = self._press.landed_ms if self.landed else 0
            keys = [f"{self.flight}:lease", f"{self.flight}:landed", out]
            token = self.token or ""
            commands.append((RELEASE, keys, [token, self.nonce, landed, int(READ_SECONDS * 1000)]))
        return commands

    def arrived(self, replies: Sequence[Any], *, released: bool) -> None:
        """Take what the scripts said to `commands`; `released`: a release was among them."""
        if self._batch:
            self.heard(replies[0], None)
            self._first += len(self._batch) + self._skipped
            self._skipped = 0
            self._batch = []
        if released:
            self.gone.set()

    def heard(self, reply: Sequence[int], held_until: float | None) -> None:
        """Take what a renewal or publication said; a renewal also says until when, as of `now`."""
        held, age = int(reply[0]), int(reply[1])
        if not held:
            self.lose()
            return
        if held_until is not None:
            self.held_until = held_until
        if age >= 0:
            self._followed_at = asyncio.get_running_loop().time() - age / 1000

    def lose(self) -> None:
        """Note that another leads, or may."""
        self.lost = True
        self._pending.clear()
        self._batch = []
        if self.released_at is not None:
            self.gone.set()

    def _fill(self) -> None:
        size = 0
        while self._pending and size < _BATCH:
            piece = self._pending.popleft()
            run = [piece.data]
            length = len(piece.data)
            while (
                piece.kind is Kind.CHUNK
                and self._pending
                and self._pending[0].kind is Kind.CHUNK
                and length < _PIECE
            ):
                run.append(self._pending.popleft().data)
                length += len(run[-1])
            self._batch.append(Piece(piece.kind, b"".join(run)))
            self._kept.append((self._first + len(self._batch) - 1, length))
            self._kept_bytes += length
            size += length
        self._pending_bytes -= size
        while self._kept_bytes > self._max_buffer and len(self._kept) > 1:
            number, length = self._kept.popleft()
            self._kept_bytes -= length
            self._oldest = max(self._oldest, number + 1)

    def _skip(self) -> None:
        """Leave a number out, so that whoever reads knows that something is missing."""
        if self._batch:  # its pieces have their numbers: the gap comes after them
            self._skipped = 1
        else:
            self._first += 1
        self._oldest = self._first + len(self._batch) + self._skipped


class Press:
    """Sends what all leases of this process have to say."""

    def __init__(
        self, connection: RedisConnection, *, lease_seconds: float, landed_seconds: float
    ) -> None:
        self._connection = connection
        self._lease_seconds = lease_seconds
        self.landed_ms = int(landed_seconds * 1000)
        self._due: dict[RedisLease, None] = {}  # in the order in which they became due
        self._task: asyncio.Task[None] | None = None

    def push(self, lease: RedisLease) -> None:
        """Have a lease's commands sent."""
        self._due[lease] = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="nearhit-lease-press")

    async def renew(self, leases: Sequence[RedisLease], *, soon: bool = False) -> None:
        """Renew leases, or learn that they are lost; raise StoreUnavailable."""
        keep = [int(self._lease_seconds * 1000), int(OUTPUT_SECONDS * 1000)]
        calls = [
            (
                RENEW,
                [f"{lease.flight}:lease", f"{lease.flight}:out:{lease.token}"],
                [lease.token, *keep],
            )
            for lease in leases
        ]
        until = now() + self._lease_seconds
        for lease, reply in zip(leases, await self._send(calls, soon=soon), strict=True):
            if not isinstance(reply, Exception):
                lease.heard(reply, until)
            elif soon:
                raise StoreUnavailable(f"Redis refused: {reply}")

    async def aclose(self, seconds: float) -> None:
        """Send what is due within so many seconds, then stop."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
            await stop(self._task)

    async def _run(self) -> None:
        while self._due:
            if not await self._round():
                await asyncio.sleep(PROBE_SECONDS)

    async def _round(self) -> bool:
        """Send some; return whether all of it arrived."""
        at = asyncio.get_running_loop().time()
        sent, calls = list[tuple[RedisLease, int, bool]](), list[tuple[str, list[str], list[Any]]]()
        for lease in itertools.islice(list(self._due), _AT_ONCE):
            del self._due[lease]
            if lease.released_at is not None and at - lease.released_at > GIVEN_UP_SECONDS:
                lease.lose()
            commands = [] if lease.lost else lease.commands()
            if commands:
                sent.append((lease, len(commands), commands[-1][0] is RELEASE))
                calls += commands
        if not calls:
            return True
        try:
            replies = await self._send(calls)
        except StoreUnavailable as error:
            log.debug("what leaders publish waits: %s", error)
            replies = [error] * len(calls)
        whole = True
        for lease, count, released in sent:
            own, replies = replies[:count], replies[count:]
            if any(isinstance(reply, Exception) for reply in own):
                whole = False
                self._due[lease] = None
                continue
            lease.arrived(own, released=released)
            if not lease.gone.is_set() and not lease.lost and lease.commands():
                self._due[lease] = None
        return whole

    async def _send(
        self, calls: Sequence[tuple[str, list[str], list[Any]]], *, soon: bool = False
    ) -> list[Any]:
        async def call(client: Redis) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for script, keys, arguments in calls:
                pipeline.eval(script, len(keys), *keys, *arguments)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
            return replies

        return await (self._connection.ask_soon(call) if soon else self._connection.ask(call))
