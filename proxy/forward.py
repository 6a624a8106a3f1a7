"""Forwarding a call: alone, or shared with whoever asks the same, streams included; then admission.

The leader's upstream call runs in a task of its own, bound to no client. What it brings is fed to
everyone who follows, turned into the JSON answer once it has ended cleanly, and offered to the
cache.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import orjson

from proxy.admission import Admitter
from proxy.answer import JSON_TYPE, SSE_HEADERS, Answer, Streamed, as_events, call_headers
from proxy.audits import Audits
from proxy.auth import Keyring
from proxy.call import Call
from proxy.errors import error_event
from proxy.head import Head, head_of
from proxy.headers import (
    COLLAPSED,
    cache_status,
    credential,
    upstream_headers,
)
from proxy.metrics import Metrics
from proxy.outcome import Lookup
from proxy.upstream import UpstreamAnswer, UpstreamCall, Upstreams
from proxy.wire.base import Json
from proxy.wire.sse import SseReader
from store.entry import Admission
from store.flight import Flight, Flights, LeaderGone, LeaderSilent, Reader

log = logging.getLogger("nearhit.forward")

_WHOLE = 1024 * 1024  # bytes of a JSON answer that is sent in one piece
_LEAST_PATIENCE = 2.0  # seconds


class Forwarder:
    """Sends calls upstream and offers what comes back to the cache."""

    def __init__(
        self,
        *,
        upstreams: Upstreams,
        flights: Flights,
        admitter: Admitter,
        keyring: Keyring,
        metrics: Metrics,
        patience: float | None,
        audits: Audits | None = None,
    ) -> None:
        self._upstreams = upstreams
        self._flights = flights
        self._admitter = admitter
        self._keyring = keyring
        self._metrics = metrics
        self._patience = patience
        self._audits = audits
        self._alone = itertools.count()

    async def relay(self, call: Call, status: bytes) -> Answer:
        """Pass the upstream's answer through, shared with nobody and not stored."""
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(await self._open(call, call.request.raw))
            head = head_of(upstream)
            return await _pass_on(call, head, status, upstream.chunks(), stack)

    async def fetch(self, call: Call, lookup: Lookup, status: bytes, *, shared: bool) -> Answer:
        """Return the upstream's answer and offer it to the cache.

        When `shared`, an identical call that is under way is joined, streams from their first
        chunk on; a leader that stays silent too long is left for a call of our own.
        """
        # A key that nobody else can ask for makes a flight that nobody can join.
        key = call.id if shared else f"{call.id}/{next(self._alone)}"
        flight, joined = self._flights.join_or_lead(key, lambda f: self._lead(call, lookup, f))
        try:
            async with AsyncExitStack() as stack:
                reader = await stack.enter_async_context(flight.follow())
                return await self._follow(call, reader, status, joined, stack)
        except (LeaderSilent, LeaderGone):
            if not joined:
                raise
            return await self.fetch(call, lookup, status, shared=False)

    async def _follow(
        self, call: Call, reader: Reader, status: bytes, joined: bool, stack: AsyncExitStack
    ) -> Answer:
        patience = self._patience_for(call) if joined else None
        head: Head = await reader.head(patience)
        if not joined or head.status != 200 or head.is_stream == call.stream:
            seen = COLLAPSED if joined else status
            chunks = reader.chunks(patience)
            if joined:
                chunks = await _begun(chunks)
            if head.is_stream:
                chunks = _as_asked(call, chunks)
            return await _pass_on(call, head, seen, chunks, stack)
        # The leader asked for the other form: wait for the whole answer and turn it round.
        whole: dict[str, Json] | None = await reader.result(patience)
        if whole is None or (call.stream and not _is_ordinary(call, whole)):
            return await self.relay(call, status)
        headers = call_headers(call, cache_status(COLLAPSED, head.received))
        if not call.stream:
            return Answer(200, [*headers, (b"content-type", JSON_TYPE)], orjson.dumps(whole))
        return Answer(200, headers + SSE_HEADERS, as_events(call, orjson.dumps(whole)))

    def _patience_for(self, call: Call) -> float:
        if self._patience is not None:
            return self._patience
        p95 = self._upstreams.route(call.model).first_byte_p95() or 0.0
        return max(_LEAST_PATIENCE, 2 * p95)

    async def _open(self, call: Call, body: bytes) -> UpstreamAnswer:
        request, query = call.request, call.request.query_string.decode("ascii")
        return await self._upstreams.open(
            UpstreamCall(
                method="POST",
                path=call.wire.path.removeprefix("/v1") + (f"?{query}" if query else ""),
                headers=upstream_headers(request.header_list, request.request_id, cacheable=True),
                body=body,
                model=call.model,
                credential=credential(
                    request.header_list,
                    tenant_key=call.caller.upstream_key,
                    keys_configured=not self._keyring.anonymous,
                ),
            )
        )

    async def _lead(self, call: Call, lookup: Lookup, flight: Flight) -> None:
        """Make the upstream call, publish what comes, and store it if it may be stored."""
        started = time.perf_counter()
        async with await self._open(call, _body_to_send(call)) as upstream:
            head = head_of(upstream)
            flight.start(head)
            async for chunk in upstream.chunks():
                await flight.feed(chunk)
        cost = time.perf_counter() - started
        raw = b"" if flight.overflowed else b"".join(flight.chunks)
        whole = await self._admitter.read(call, head, raw) if raw and head.readable else None
        flight.finish(whole)
        await asyncio.sleep(0)  # the clients first: they need not wait for what storing takes
        outcome = await self._admitter.admit(call, lookup, head, raw, whole, cost)
        if flight.overflowed:
            outcome = Admission.TOO_LARGE
        self._metrics.admissions.labels(self._metrics.category(call.category), outcome).inc()
        if self._audits is not None and lookup.near is not None and whole is not None:
            if outcome == Admission.STORED:
                self._audits.consider_near_miss(call, lookup.near, whole, lookup.near_risk)


def _body_to_send(call: Call) -> bytes:
    """Return the client's own bytes, or the body that also asks for what a JSON answer needs."""
    if not call.stream or call.wire.ask_for_usage(call.body) is call.body:
        return call.request.raw
    # The standard library keeps integers of any length as they were sent.
    return json.dumps(call.wire.ask_for_usage(json.loads(call.request.raw))).encode()


def _is_ordinary(call: Call, whole: dict[str, Json]) -> bool:
    """Whether a JSON answer can be told as a stream."""
    return call.wire.refuse(whole, store_tool_calls=True) is None


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return the same chunks once the first is there: until then another call may take over."""
    first = await anext(chunks, b"")

    async def again() -> AsyncIterator[bytes]:
        if first:
            yield first
        async for chunk in chunks:
            yield chunk

    return again()


async def _pass_on(
    call: Call, head: Head, status: bytes, chunks: AsyncIterator[bytes], stack: AsyncExitStack
) -> Answer:
    """Return an answer in the form in which it comes; it takes over what `stack` holds."""
    headers = head.headers + call_headers(call, cache_status(status, head.received))
    if head.is_stream:
        return Answer(head.status, headers, Streamed(_told(call, chunks), stack.pop_all()))
    if head.length is not None and head.length <= _WHOLE:
        return Answer(head.status, headers, b"".join([chunk async for chunk in chunks]))
    return Answer(head.status, headers, Streamed(chunks, stack.pop_all()))


async def _as_asked(call: Call, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a stream without what only we have asked for."""
    if call.wire.ask_for_usage(call.body) is call.body:
        async for chunk in chunks:
            yield chunk
        return
    reader = SseReader()
    async for chunk in chunks:
        seen = b"".join([call.wire.trim(event, call.body) for event in reader.feed(chunk)])
        if seen:
            yield seen
    if rest := reader.flush():
        yield rest


async def _told(call: Call, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a stream; if it breaks off, end it with an error event that the SDKs raise."""
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as error:
        log.warning("the stream of %s broke off: %s", call.request.request_id, error)
        yield error_event(call.wire.path, error)
