"""Texts from many callers, encoded together. No timer: a batch is what arrived during the last."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from embed.encoder import Encoder, ThreadedEncoder, Vector, Vectors
from embed.errors import EmbedError, EncoderFailed, Overloaded

logger = logging.getLogger(__name__)

MEMO_TEXT_BYTES = 2048  # a longer text is not remembered, so that the memo's memory is bounded
MAX_FAILED_RETRIES = 3  # in a row: then the encoder is down, and the rest would only wait for it


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """What one batch was like, for metrics."""

    size: int  # distinct texts
    failed: int  # of them, texts that got no vector
    waited: tuple[float, ...]  # seconds in the queue, one a text
    seconds: float  # encoding, retries included


class Sequel(Protocol):
    """What one caller has to do with the vector of a text that is encoded alone.

    Nothing may rest on its being done: it is left out where several texts are encoded at once.
    """

    def begin(self) -> None:
        """Hear on the event loop that the encoding is about to begin."""
        ...

    def run(self, vector: Vector) -> None:
        """Go on with the vector, of shape (d,), in the encoder's thread."""
        ...


@dataclass(slots=True)
class Job:
    """One text and everybody who waits for its vector."""

    text: str
    sequel: Sequel | None = None  # of the first caller
    arrived: float = field(default_factory=time.perf_counter)
    callers: set[asyncio.Future[Vector]] = field(default_factory=set)


class Batcher:
    """Encodes together whatever arrived while the previous batch was running.

    Equal texts are encoded once, and recent ones not at all.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_batch: int = 32,
        max_waiting: int = 256,
        memo_size: int = 4096,
        on_batch: Callable[[BatchFacts], None] | None = None,
    ) -> None:
        """Take at most `max_batch` texts at once; let at most `max_waiting` distinct ones wait."""
        self._encoder = encoder
        self._threaded = encoder if isinstance(encoder, ThreadedEncoder) else None
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._memo_size = memo_size
        self._on_batch = on_batch
        self._memo: OrderedDict[str, Vector] = OrderedDict()  # least recently used first
        self._queue: dict[str, Job] = {}  # in order of arrival
        self._running: dict[str, Job] = {}
        self._arrival = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many texts wait for their batch."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to take batches; call it once, inside the event loop."""
        self._task = asyncio.create_task(self._run(), name="batcher")

    async def aclose(self) -> None:
        """Stop; who still waits gets EncoderFailed. The encoder is its owner's to close."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._fail_all()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def encode(self, text: str, sequel: Sequel | None = None) -> Vector:
        """Return the unit vector of `text`, read-only and of shape (d,).

        `sequel` has run by then, if this was the only text and the encoder can. Raise Overloaded
        when too many texts wait, EncoderFailed when the encoder fails or the batcher is not
        running.
        """
        remembered = self._memo.get(text)
        if remembered is not None:
            self._memo.move_to_end(text)
            return remembered
        if self._task is None or self._task.done():
            raise EncoderFailed("the batcher is not running")
        job = self._running.get(text) or self._queue.get(text)
        if job is None:
            if len(self._queue) >= self._max_waiting:
                raise Overloaded(f"{len(self._queue)} texts are already waiting")
            job = self._queue[text] = Job(text, sequel)
            self._arrival.set()
        # Each caller has a future of its own: one that hangs up must not cancel the others.
        caller: asyncio.Future[Vector] = asyncio.get_running_loop().create_future()
        job.callers.add(caller)
        try:
            return await caller
        finally:
            job.callers.discard(caller)
            if not job.callers and self._queue.get(text) is job:
                del self._queue[text]  # everybody hung up: free the place now

    async def _run(self) -> None:
        try:
            while True:
                await self._arrival.wait()
                self._arrival.clear()
                while self._queue:
                    await self._take_batch()
        finally:
            self._fail_all()

    async def _take_batch(self) -> None:
        for text in list(self._queue)[: self._max_batch]:
            self._running[text] = self._queue.pop(text)
        jobs = list(self._running.values())
        begun = time.perf_counter()
        failed = await self._encode(jobs)
        if self._on_batch is None:
            return
        facts = BatchFacts(
            size=len(jobs),
            failed=failed,
            waited=tuple(begun - job.arrived for job in jobs),
            seconds=time.perf_counter() - begun,
        )
        try:
            self._on_batch(facts)
        except Exception:
            logger.exception("on_batch failed")

    async def _encode(self, jobs: Sequence[Job]) -> int:
        """Give every caller of `jobs` a vector or an error; return how many texts failed."""
        error = await self._try(jobs)
        if error is None:
            return 0
        if len(jobs) == 1:
            self._fail(jobs[0], error)
            return 1
        # One bad text must not cost its neighbours their vectors: each gets a try of its own.
        failed = in_a_row = 0
        for job in jobs:
            if not job.callers:
                del self._running[job.text]
                continue
            if in_a_row < MAX_FAILED_RETRIES:
                error = await self._try([job])
            if error is None:
                in_a_row = 0
            else:
                in_a_row += 1
                failed += 1
                self._fail(job, error)
        return failed

    async def _try(self, jobs: Sequence[Job]) -> BaseException | None:
        """Encode `jobs` together and answer their callers, or return what went wrong."""
        try:
            vectors = await self._vectors_of(jobs)
            if vectors.shape != (len(jobs), self._encoder.dimension):
                raise EncoderFailed(f"vectors of shape {vectors.shape} for {len(jobs)} texts")
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return error  # the encoder's own work was cancelled, not the batcher
        except Exception as error:
            return error
        for job, row in zip(jobs, vectors, strict=True):
            # A copy: a view would keep the whole batch alive in the memo.
            vector = np.array(row, np.float32)
            vector.setflags(write=False)
            self._remember(job.text, vector)
            del self._running[job.text]
            for caller in job.callers:
                if not caller.done():
                    caller.set_result(vector)
        return None

    async def _vectors_of(self, jobs: Sequence[Job]) -> Vectors:
        sequel = jobs[0].sequel
        if len(jobs) > 1 or sequel is None or self._threaded is None:
            return await self._encoder.encode([job.text for job in jobs])
        sequel.begin()
        vectors, _ = await self._threaded.encode_and(jobs[0].text, sequel.run)
        return vectors

    def _remember(self, text: str, vector: Vector) -> None:
        if self._memo_size == 0 or sys.getsizeof(text) > MEMO_TEXT_BYTES:
            return
        self._memo[text] = vector
        self._memo.move_to_end(text)
        if len(self._memo) > self._memo_size:
            self._memo.popitem(last=False)

    def _fail(self, job: Job, error: BaseException) -> None:
        """Give each caller an error of its own: a shared one would collect all their tracebacks."""
        self._running.pop(job.text, None)
        for caller in job.callers:
            if not caller.done():
                # What others say may hold the text, and this is written to a log.
                said = str(error) if isinstance(error, EmbedError) else ""
                own = EncoderFailed(said or type(error).__name__)
                own.__cause__ = error
                caller.set_exception(own)

    def _fail_all(self) -> None:
        for job in (*self._running.values(), *self._queue.values()):
            self._fail(job, EncoderFailed("the batcher has stopped"))
        self._queue.clear()
