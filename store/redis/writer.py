"""One task writes to Redis, and sends together whatever queued up during the last round trip.

A write has two halves. The first goes to the slots of entries, the second to the journal's, and
is sent once the first has been answered: what the journal tells of is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from store.errors import StoreUnavailable
from store.redis.connection import RedisConnection
from store.redis.exchange import Command, Reply, exchange

GROUP_WRITES = 256  # in one round trip, which has one budget of time
GROUP_BYTES = 8 * 2**20


class Steps(NamedTuple):
    """The halves of a write."""

    first: Sequence[Command]
    then: Callable[[list[Reply]], Command]  # given the replies to the first, none a refusal


Work = Callable[[Redis], Awaitable[Any]]  # for a write that is not two halves


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """What is to be done, and who waits for the reply to its second half."""

    what: Steps | asyncio.Future[Steps] | Work
    size: int  # bytes that it keeps in memory while it waits
    done: asyncio.Future[Any]


class OrderedWriter:
    """Takes writes in the order of the calls. A write that is refused harms no other.

    When the server does not answer, what waits behind fails too: nobody waits for one budget of
    time after the other.
    """

    def __init__(self, connection: RedisConnection, *, max_writes: int, max_bytes: int) -> None:
        self._connection = connection
        self._max_writes = max_writes
        self._max_bytes = max_bytes
        self._waiting: deque[Write] = deque()
        self._bytes = 0
        self._closed = False
        self._running: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many writes wait for their turn."""
        return len(self._waiting)

    def submit(
        self, what: Steps | asyncio.Future[Steps] | Work, *, size: int = 0
    ) -> asyncio.Future[Any]:
        """Queue a write; the future gives the reply to its second half, or what its work returns.

        Steps may come as a future, for what is encoded in a thread. The future raises
        StoreUnavailable; after that the write may have taken effect all the same.
        Raises StoreUnavailable when too much waits already or the store is closed.
        """
        self.check_open()
        if len(self._waiting) >= self._max_writes or self._bytes + size > self._max_bytes:
            raise StoreUnavailable(
                f"{len(self._waiting)} writes of {self._bytes} bytes already wait"
            )
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(Write(what, size, done))
        self._bytes += size
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="nearhit-redis-writes")
        return done

    def check_open(self) -> None:
        """Raise StoreUnavailable once closed."""
        if self._closed:
            raise StoreUnavailable("the document store is closed")

    async def aclose(self) -> None:
        """Finish what was accepted, as far as the server lets us."""
        self._closed = True
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        while self._waiting:
            group = self._take()
            try:
                await self._connection.ask(lambda client, group=group: self._send(client, group))  # type: ignore[misc]
            except StoreUnavailable as error:
                if any(not write.done.done() for write in group):  # it did not answer
                    group += self._waiting
                    self._waiting.clear()
                    self._bytes = 0
                settle(group, error)
            except Exception as error:
                settle(group, StoreUnavailable(f"the write could not be made: {error!r}"))

    def _take(self) -> list[Write]:
        group, size = list[Write](), 0
        while self._waiting and len(group) < GROUP_WRITES and size < GROUP_BYTES:
            alone = callable(self._waiting[0].what)
            if alone and group:
                break
            write = self._waiting.popleft()
            group.append(write)
            size += write.size
            if alone:
                break
        self._bytes -= size
        return group

    async def _send(self, client: Redis, group: list[Write]) -> None:
        """Do the writes; raise the first refusal when all have been told, so that it counts."""
        refusals: list[ResponseError] = []
        what = group[0].what
        if callable(what):
            try:
                tell(group[0], await what(client), refusals)
            except ResponseError as error:
                tell(group[0], error, refusals)
        else:
            await send_steps(client, group, refusals)
        if refusals:
            raise refusals[0]


async def send_steps(client: Redis, group: list[Write], refusals: list[ResponseError]) -> None:
    """Send the first halves, then the second ones of those that were not refused."""
    ready = [(write, steps) for write in group if (steps := await steps_of(write)) is not None]
    replies = await exchange(client, [each for _, steps in ready for each in steps.first])
    second: list[tuple[Write, Command]] = []
    start = 0
    for write, steps in ready:
        part = replies[start : start + len(steps.first)]
        start += len(steps.first)
        refused = next((each for each in part if isinstance(each, ResponseError)), None)
        if refused is None:
            second.append((write, steps.then(part)))
        else:
            tell(write, refused, refusals)
    answers = await exchange(client, [command for _, command in second])
    for (write, _), reply in zip(second, answers, strict=True):
        tell(write, reply, refusals)


async def steps_of(write: Write) -> Steps | None:
    """Return the write's steps; None once its caller has been told that it cannot be encoded."""
    if isinstance(write.what, Steps):
        return write.what
    try:
        assert isinstance(write.what, asyncio.Future)
        return await asyncio.shield(write.what)
    except (ValueError, TypeError) as error:
        settle([write], StoreUnavailable(f"the write cannot be encoded: {error}"))
        return None


def tell(write: Write, reply: Reply, refusals: list[ResponseError]) -> None:
    """Resolve the write's future with its reply, and note a refusal."""
    if isinstance(reply, ResponseError):
        refusals.append(reply)
        settle([write], StoreUnavailable(f"Redis refused: {reply}"))
    elif not write.done.done():  # else whoever waited has been cancelled
        write.done.set_result(reply)


def settle(writes: Sequence[Write], error: StoreUnavailable) -> None:
    """Fail the writes that have no outcome yet."""
    for write in writes:
        if not write.done.done():
            write.done.set_exception(StoreUnavailable(str(error)))
