"""One upstream call that many readers follow live, from its first chunk on.

The call runs in a task of its own: no reader's hang-up harms the others, and the last one's
cancels it. Everything here belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

STORING_SECONDS = 5.0  # that a leader with a complete answer gets to store it at the end
MAX_BUFFER = 8 * 2**20  # bytes of one answer that are kept for readers who come later

logger = logging.getLogger(__name__)
Lead = Callable[["Flight"], Awaitable[None]]


class LeaderSilent(Exception):
    """The leader gave no sign of life for longer than this reader's patience."""


class LeaderGone(Exception):
    """The leader ended without an answer."""


class Flight:
    """What a leader has published so far. The leader publishes, readers follow."""

    def __init__(self, id: str, max_buffer: int, on_close: Callable[[Flight], None]) -> None:
        self.id = id
        self.head: Any = None  # as the leader gave it
        self.result: Any = None
        self.started = False
        self.ended = False
        self.error: BaseException | None = None
        self.overflowed = False  # longer than the buffer: no longer whole, so not to be stored
        self.last_sign = asyncio.get_running_loop().time()
        self.first = 0  # number of the oldest chunk that is still kept
        self.borrowed = False  # what it publishes comes from a leader elsewhere
        self.wanted_elsewhere: Callable[[], bool] = lambda: False
        self.chunks: deque[bytes] = deque()
        self.readers: set[Reader] = set()
        self._trace: TracebackType | None = None
        self._buffered = 0
        self._max_buffer = max_buffer
        self._on_close = on_close
        self._room = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def start(self, head: Any) -> None:
        """Publish the head: any value, such as status and headers."""
        self.head, self.started = head, True
        self.sign()

    async def feed(self, chunk: bytes) -> None:
        """Publish a chunk. Beyond the buffer, wait for the slowest reader."""
        self.chunks.append(chunk)
        self._buffered += len(chunk)
        self.sign()
        if self._buffered > self._max_buffer and not self.overflowed:
            self.overflowed = True
            self._on_close(self)
        while self.overflowed and self._drop_read() > self._max_buffer:
            self._room.clear()
            self.last_sign = math.inf  # a leader that waits for readers is not silent
            try:
                await self._room.wait()
            finally:
                self.sign()

    def finish(self, result: Any = None) -> None:
        """End well. Until the lead coroutine returns, newcomers still join and read it all."""
        if not self.ended:
            self.result, self.ended = result, True
            self.sign()

    def fail(self, error: BaseException) -> None:
        """End badly: readers get the chunks published so far, then the error."""
        if not self.ended:
            self.error, self.ended = error, True
            self._trace = error.__traceback__
            self._on_close(self)
            self.sign()

    def follow(self) -> Reader:
        """Return an async context manager that yields a reader from the beginning."""
        return Reader(self)

    def launch(self, lead: Lead) -> asyncio.Task[None]:
        """Run the leader."""
        self.task = asyncio.create_task(self._run(lead), name=f"nearhit-flight-{self.id}")
        self.task.add_done_callback(self._land)
        return self.task

    def leave(self, reader: Reader) -> None:
        """Let a reader go; the last one to go before the end takes the leader along."""
        self.readers.discard(reader)
        self._room.set()
        self.stop_if_unwanted()

    def stop_if_unwanted(self) -> None:
        """Cancel the leader if nobody waits for the answer, here or elsewhere."""
        if self.readers or self.ended or self.task is None or self.wanted_elsewhere():
            return
        self.fail(LeaderGone("everybody who waited for the answer has left"))
        self.task.cancel()

    def hold_patience(self) -> None:
        """Count no silence until `sign`: the leader waits for one elsewhere, and has patience."""
        self.last_sign = math.inf

    def sign(self) -> None:
        """Give a sign of life: silence counts from now."""
        self.last_sign = asyncio.get_running_loop().time()
        for reader in self.readers:
            reader.wake()

    def progressed(self) -> None:
        """Note that a reader took a chunk or needs none."""
        if self.overflowed:
            self._room.set()

    def raise_error(self) -> None:
        """Raise what the flight failed with, if it did."""
        if self.error is not None:  # one instance for many readers: do not pile up their frames
            raise self.error.with_traceback(self._trace)

    async def _run(self, lead: Lead) -> None:
        try:
            await lead(self)
        except Exception as error:
            if self.ended:
                logger.exception("a leader failed after its answer was complete")
            self.fail(error)

    def _land(self, task: asyncio.Task[None]) -> None:
        self.fail(LeaderGone("the leader ended without an answer"))  # unless it gave one
        self._on_close(self)

    def _drop_read(self) -> int:
        """Drop the chunks that every reader has; return how many bytes are left."""
        slowest = min((reader.position for reader in self.readers), default=math.inf)
        while self.chunks and self.first < slowest:
            self._buffered -= len(self.chunks.popleft())
            self.first += 1
        return self._buffered


class Reader:
    """One follower of a flight. Use one method at a time."""

    def __init__(self, flight: Flight) -> None:
        self.position: float = 0  # number of the next chunk; infinite: it needs none
        self._flight = flight
        self._waiter: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        if self._flight.first:
            raise LeaderGone("the answer's beginning is no longer kept")
        self._flight.readers.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._flight.leave(self)

    async def head(self, patience: float | None = None) -> Any:
        """Wait for the head and return it.

        Raises LeaderSilent after `patience` seconds without a sign of life, and the flight's
        error if it failed before its head.
        """
        flight = self._flight
        while not flight.started:
            if flight.ended:
                self._flight.raise_error()
                return None
            await self._sign(patience)
        return flight.head

    async def chunks(self, patience: float | None = None) -> AsyncIterator[bytes]:
        """Yield every chunk from the first on, as it comes, then raise the flight's error if any.

        Raises LeaderSilent as `head` does, but only before the first chunk: whoever has some
        bytes waits for the rest.
        """
        flight = self._flight
        position = 0
        while True:
            while position < flight.first + len(flight.chunks):
                chunk = flight.chunks[position - flight.first]
                position += 1
                self.position = position
                flight.progressed()
                yield chunk
            if flight.ended:
                break
            await self._sign(None if position else patience)
        self._flight.raise_error()

    async def result(self, patience: float | None = None) -> Any:
        """Wait for the end and return the result, without reading chunks.

        Raises LeaderSilent as `head` does, and the flight's error.
        """
        self.position = math.inf
        self._flight.progressed()
        while not self._flight.ended:
            await self._sign(patience)
        self._flight.raise_error()
        return self._flight.result

    def wake(self) -> None:
        """Let the reader look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _sign(self, patience: float | None) -> None:
        """Wait until the leader publishes something."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None
        deadline = math.inf if patience is None else self._flight.last_sign + patience
        if loop.time() >= deadline:
            raise LeaderSilent(f"the leader has been silent for {patience:g} s")
        if deadline < math.inf:
            timer = loop.call_at(deadline, self.wake)
        try:
            await self._waiter
        finally:
            if timer is not None:
                timer.cancel()


class Flights:
    """The flights that can be joined, by exact key."""

    def __init__(self, max_buffer: int = MAX_BUFFER) -> None:
        self._max_buffer = max_buffer
        self._joinable: dict[str, Flight] = {}
        self._tasks: dict[asyncio.Task[None], Flight] = {}

    def __len__(self) -> int:
        return len(self._joinable)

    def join_or_lead(self, id: str, lead: Lead) -> tuple[Flight, bool]:
        """Return the flight under this key and True, or a new one led by `lead` and False.

        A flight can be joined until its lead coroutine returns, so a lead that stores the
        answer after `finish` leaves no gap between the end and the entry. It is closed earlier
        when it fails, overflows, or everybody left. Follow it before the next await.
        """
        flight = self._joinable.get(id)
        if flight is not None:
            return flight, True
        flight = Flight(id, self._max_buffer, self._close)
        self._joinable[id] = flight
        task = flight.launch(lead)
        self._tasks[task] = flight
        task.add_done_callback(self._tasks.pop)
        return flight, False

    async def landed(self, id: str, seconds: float) -> None:
        """Wait for a flight that has ended but whose leader has not returned, as it is storing.

        Returns at once when there is none, and after `seconds` in any case.
        """
        flight = self._joinable.get(id)
        if flight is not None and flight.ended and flight.task is not None:
            await asyncio.wait([flight.task], timeout=seconds)

    async def aclose(self) -> None:
        """Let leaders whose answer is complete finish storing it, cancel the rest, wait for all."""
        tasks = dict(self._tasks)
        for task, flight in tasks.items():
            if not flight.ended:
                task.cancel()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=STORING_SECONDS)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _close(self, flight: Flight) -> None:
        if self._joinable.get(flight.id) is flight:
            del self._joinable[flight.id]
