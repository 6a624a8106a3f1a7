"""An upstream's answer as it arrives, and the accounting of the try that brought it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from proxy.fleet import Group, Member, Try
from proxy.retry import OVERLOADED
from proxy.upstream_errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)


class CallFacts(NamedTuple):
    """What one try came to, for metrics and traces."""

    upstream: str
    model: str | None
    status: int  # 0: no answer
    outcome: str  # ok, retried, unavailable, timeout, broken, cancelled
    first_byte: float | None  # seconds
    total: float  # seconds


class Source(Protocol):
    """An answer whose head has arrived, wherever it comes from."""

    status: int
    headers: list[tuple[bytes, bytes]]

    def arrived(self) -> bytes:
        """Return what has arrived and was not taken yet, without waiting."""
        ...

    def complete(self) -> bool:
        """Whether nothing more has to be waited for."""
        ...

    def ended(self) -> bool:
        """Whether everything has arrived and was taken."""
        ...

    async def more(self) -> bytes:
        """Wait for more; b"" is the end. Raise anything if it broke."""
        ...

    async def aclose(self) -> None:
        """Give up whatever has not arrived."""
        ...


class Turn:
    """The accounting of one try: begun once, ended once."""

    __slots__ = (
        *("_ended", "_first_byte", "_on_call", "_probe", "_started", "_status"),
        *("group", "member", "model"),
    )

    def __init__(
        self,
        group: Group | None,  # None: its time to the first byte says nothing of the group
        member: Member,
        model: str | None,
        on_call: Callable[[CallFacts], None],
    ) -> None:
        self.group, self.member, self.model = group, member, model
        self._on_call = on_call
        self._started = time.monotonic()
        self._probe = member.start(self._started)
        self._status = 0
        self._first_byte: float | None = None
        self._ended = False

    def answered(self, status: int) -> None:
        now = time.monotonic()
        self._status = status
        self._first_byte = now - self._started
        if status in OVERLOADED:
            self.member.failed(now, probe=self._probe)
        else:
            self.member.answered()
        if self.group is not None and (status < 400 or status == 429 or status >= 500):
            failed = status >= 400
            self.group.tries.append(Try(now, self._first_byte, failed))
            if not failed:
                self.group.first_bytes.append(self._first_byte)

    def fail(self, error: BaseException) -> None:
        self.end(_outcome(error))

    def end(self, outcome: str) -> None:
        if self._ended:
            return
        self._ended = True
        now = time.monotonic()
        took = now - self._started
        if outcome in ("unavailable", "timeout", "broken"):
            self.member.failed(now, probe=self._probe)
            if self.group is not None:
                self.group.tries.append(Try(now, self._first_byte or took, failed=True))
        elif self._status and self._status not in OVERLOADED:
            self.member.ended()
        if outcome == "ok":
            self.member.last_released = now
        elif outcome in ("cancelled", "retried") and self._first_byte is None:
            if self.group is not None:
                self.group.gave_up(now, took)
        self.member.finish(probe=self._probe)
        name = self.member.name
        facts = CallFacts(name, self.model, self._status, outcome, self._first_byte, took)
        self._on_call(facts)


def _outcome(error: BaseException) -> str:
    if isinstance(error, UpstreamUnavailable):
        return "unavailable"
    if isinstance(error, UpstreamTimeout):
        return "timeout"
    return "broken" if isinstance(error, UpstreamError) else "cancelled"


class UpstreamAnswer:
    """An upstream's answer: its head, and its body as it comes. Read it to its end or close it."""

    __slots__ = ("_idle_timeout", "_name", "_patience", "_source", "_turn", "headers", "status")

    def __init__(self, source: Source, turn: Turn) -> None:
        self.status = source.status
        self.headers = source.headers
        turn.answered(source.status)
        self._source = source
        self._turn = turn
        self._name = turn.member.name
        spec = turn.member.spec
        self._idle_timeout = spec.idle_timeout
        # Many servers send the head at once, long before they have anything to say.
        self._patience = max(spec.first_byte_timeout, spec.idle_timeout)

    @property
    def upstream(self) -> str:
        """The name of the upstream that answers."""
        return self._name

    def whole(self) -> bytes | None:
        """Return the body if all of it has arrived by now, else None and nothing is lost."""
        if self._source.complete():
            self._turn.end("ok")
            return self._source.arrived()
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as they arrive; raise UpstreamTimeout or UpstreamBroken."""
        while chunk := await self._next():
            yield chunk

    async def read(self, limit: int) -> bytes:
        """Return the whole body; raise UpstreamBroken if it is larger than `limit` bytes."""
        chunk = await self._next()
        if self._source.ended() and len(chunk) <= limit:
            self._turn.end("ok")
            return chunk
        parts, size = [chunk], len(chunk)
        while chunk and size <= limit:
            chunk = await self._next()
            parts.append(chunk)
            size += len(chunk)
        if size > limit:
            await self.aclose()
            raise UpstreamBroken(f"upstream {self._name}: the answer is larger than {limit} bytes")
        return b"".join(parts)

    async def _next(self) -> bytes:
        source = self._source
        try:
            chunk = source.arrived()
            if not chunk and not source.ended():
                async with asyncio.timeout(self._patience):
                    chunk = await source.more()
            if chunk:
                self._patience = self._idle_timeout
                return chunk
        except BaseException as error:
            await source.aclose()
            told = self._told(error)
            self._turn.fail(told)
            if told is error:
                raise
            raise told from error
        self._turn.end("ok")
        return b""

    def _told(self, error: BaseException) -> BaseException:
        if isinstance(error, UpstreamError) or not isinstance(error, Exception):
            return error
        if isinstance(error, TimeoutError):
            seconds = self._patience
            return UpstreamTimeout(f"upstream {self._name}: silent for {seconds:g} s in its answer")
        return UpstreamBroken(f"upstream {self._name}: the answer broke off")

    def set_aside(self) -> None:
        """Count it out for another try; it can still be read, or has to be closed."""
        self._turn.end("retried")

    async def discard(self) -> None:
        """Drop it in favour of another try."""
        self.set_aside()
        await self._source.aclose()

    async def aclose(self) -> None:
        """Drop what has not arrived, with its connection; a complete answer costs nothing."""
        if not self._source.ended():
            await self._source.aclose()
            self._turn.end("cancelled")
        else:
            self._turn.end("ok")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
