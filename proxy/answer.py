"""What goes back to a client, and how a stored entry becomes that."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import orjson

from proxy import headers as h
from proxy.call import Call
from proxy.errors import error_event
from proxy.outcome import Served
from proxy.wire.echo import own, with_own
from store.entry import Held
from store.flight import Flight
from store.hot import Document

log = logging.getLogger("nearhit.answer")

JSON_TYPE = b"application/json"
SSE = b"text/event-stream; charset=utf-8"
SSE_HEADERS = [
    (b"content-type", SSE),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Streamed:
    """A body as it comes, with what has to be let go of when it is done or given up."""

    def __init__(self, chunks: AsyncIterator[bytes], owned: AsyncExitStack) -> None:
        self.chunks = chunks
        self._owned = owned

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._owned.aclose()


@dataclass(slots=True)
class Answer:
    """A response, whole or as it comes."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes | Streamed
    # What the usage ledger needs to know.
    served: Served = Served.BYPASS
    held: Held | None = None  # the entry that was replayed, and its JSON form
    stored: bytes = b""
    flight: Flight | None = None  # that was followed
    unread: bool = False  # whether nobody looks at what an upstream says in it


def call_headers(call: Call, status: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers that every answer on a cacheable route carries."""
    return [
        (b"cache-status", status),
        (b"x-nearhit-category", call.category.encode()),
        (b"x-request-id", call.request.request_id.encode()),
    ]


def replay(
    call: Call,
    held: Held,
    document: Document,
    *,
    similarity: float,
    now: datetime,
    ttl: timedelta,
    stale: bool = False,
) -> Answer:
    """Return a stored answer on the wire that this client asked for.

    `stale`: it has expired and stands in for an upstream that failed. Of an answer that another
    tenant brought, nothing tells when or for which question that was.
    """
    age = max(0, int((now - held.created_at).total_seconds()))
    left = int(ttl.total_seconds()) - age
    exact = held.id == call.id or (held.shared_key != "" and held.shared_key == call.shared_key)
    if stale:
        served, left = Served.STALE_IF_ERROR, min(left, -1)
    else:
        served, left = Served.EXACT if exact else Served.SEMANTIC, max(left, 0)
    if held.tenant != call.caller.tenant:
        headers = call_headers(call, h.hit(-1 if stale else 0, served))
    else:
        headers = call_headers(call, h.hit(left, served))
        headers += [
            (b"age", str(age).encode()),
            (b"x-nearhit-entry", held.id.encode()),
            (b"x-nearhit-similarity", b"1.0" if exact else f"{similarity:.4f}".encode()),
        ]
    if not call.stream:
        headers.append((b"content-type", document.content_type.encode()))
        return Answer(200, headers, _as_json(call, document.body), served, held, document.body)
    events = as_events(call, document.body)
    return Answer(200, headers + SSE_HEADERS, events, served, held, document.body)


def as_events(call: Call, body: bytes) -> bytes:
    """Return a JSON answer as the whole SSE stream that this client would have seen."""
    answer = with_own(orjson.loads(body), own(call.body, call.wire.echoes))
    return b"".join(call.wire.replay(answer, call.body))


def _as_json(call: Call, body: bytes) -> bytes:
    """Return a stored answer as this client would have seen it: mostly the very bytes."""
    said = own(call.body, call.wire.echoes)
    return orjson.dumps(with_own(orjson.loads(body), said)) if said else body


async def begun(chunks: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """Return the first chunk, b"" if there is none, and all of them: until then nothing is sent."""
    first = await anext(chunks, b"")

    async def again() -> AsyncIterator[bytes]:
        if first:
            yield first
        async for chunk in chunks:
            yield chunk

    return first, again()


async def told(call: Call, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a stream; if it breaks off, end it with an error event that the SDKs raise."""
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as error:
        log.warning("the stream of %s broke off: %s", call.request.request_id, error)
        yield error_event(call.wire.path, error)
