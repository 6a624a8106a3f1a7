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
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

import orjson

from proxy.admission import Admitter
from proxy.answer import (
    JSON_TYPE,
    SSE_HEADERS,
    Answer,
    Streamed,
    as_events,
    begun,
    call_headers,
    told,
)
from proxy.audits import Audits
from proxy.auth import Keyring
from proxy.call import Call
from proxy.head import REFUSING, Head, head_of, transport_of
from proxy.headers import (
    COLLAPSED,
    MISS,
    REQUEST,
    STALE,
    cache_status,
    credential,
    upstream_headers,
)
from proxy.hops import hop
from proxy.leasing import LeadingAlone, LeaseOutcome, Leasing, Led, led
from proxy.metrics import Metrics
from proxy.nearhits.prediction import with_prediction
from proxy.outcome import Lookup, Outcome, Served
from proxy.upstream import UpstreamAnswer, UpstreamCall, Upstreams
from proxy.usage.counting import Usage
from proxy.wire.base import Json
from proxy.wire.sse import SseReader
from store.entry import Admission
from store.flight import Flight, Flights, LeaderGone, LeaderSilent
from store.leases import AnswerLanded, Lease

log = logging.getLogger("nearhit.forward")

_WHOLE = 1024 * 1024  # bytes of a JSON answer that is sent in one piece
_LEAST_PATIENCE = 2.0  # seconds
# Members of Cache-Status that are not of a bypass.
_SERVED = {COLLAPSED: Served.COLLAPSED} | dict.fromkeys((MISS, STALE, REQUEST), Served.MISS)
_WISH = b"stream_options"  # what an upstream names that does not know it
_TRIES = 3  # to join a shared call again whose leader elsewhere has died, before going alone


class Began(NamedTuple):
    """When a call of an upstream began."""

    clock: float  # seconds
    asked: int  # as of `Admitter.now`


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
        leasing: Leasing | None = None,
        usage: Usage | None = None,
    ) -> None:
        """`leasing` shares flights with other replicas; `usage` counts what answers used."""
        self._upstreams = upstreams
        self._flights = flights
        self._admitter = admitter
        self._keyring = keyring
        self._metrics = metrics
        self._patience = patience
        self._audits = audits
        self._leasing = leasing
        self._usage = usage
        self._alone = itertools.count()
        self._unmetered: set[str] = set()  # groups that refuse to be asked for a stream's usage

    async def relay(self, call: Call, status: bytes) -> Answer:
        """Pass the upstream's answer through, shared with nobody and not stored."""
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(await self._open(call, call.request.raw))
            head = head_of(upstream)
            answer = await _pass_on(call, head, status, upstream.chunks(), stack)
            answer.unread = True
            return answer

    async def fetch(
        self,
        call: Call,
        lookup: Lookup,
        status: bytes,
        *,
        shared: bool,
        mind_landed: bool = True,
        tries: int = _TRIES,
    ) -> Answer:
        """Return the upstream's answer and offer it to the cache.

        When `shared`, an identical call that is under way is joined, streams from their first
        chunk on; a leader that stays silent too long is left for a call of our own. Raises
        AnswerLanded when another replica has just stored an answer, if that is minded.
        """
        # A key that nobody else can ask for makes a flight that nobody can join.
        key = call.flight_key if shared else f"{call.id}/{next(self._alone)}"
        leasing = self._leasing if shared else None

        async def lead(flight: Flight) -> None:
            if leasing is None:
                return await self._lead(call, lookup, flight, LeadingAlone())
            patience = self._patience_for(call)
            lease = await leasing.lease(call, flight, patience, mind_landed=mind_landed)
            if lease is not None:
                await self._lead(call, lookup, flight, lease)

        flight, joined = self._flights.join_or_lead(key, lead)
        try:
            async with AsyncExitStack() as stack:
                return await self._follow(call, flight, status, joined, stack)
        except AnswerLanded:  # of a flight that was led by one who had not looked for it yet
            if mind_landed:
                raise
        except (LeaderSilent, LeaderGone):
            if not joined and not flight.borrowed:
                raise
            if not flight.borrowed or flight.error is None:
                tries = 0
        if not tries:
            return await self.fetch(call, lookup, status, shared=False)
        return await self.fetch(
            call, lookup, status, shared=shared, mind_landed=mind_landed, tries=tries - 1
        )

    async def _follow(
        self, call: Call, flight: Flight, status: bytes, joined: bool, stack: AsyncExitStack
    ) -> Answer:
        reader = await stack.enter_async_context(flight.follow())
        patience = self._patience_for(call) if joined else None
        head: Head = await reader.head(patience)
        joined = joined or flight.borrowed
        if joined and head.status in REFUSING and head.refused != transport_of(call.body):
            raise LeaderGone("the request that led was refused, and says what this one does not")
        if not joined or head.status != 200 or head.is_stream == call.stream:
            seen = COLLAPSED if joined else status
            chunks = reader.chunks(patience)
            if joined:
                _, chunks = await begun(chunks)
            if head.is_stream:
                chunks = _as_asked(call, chunks)
            answer = await _pass_on(call, head, seen, chunks, stack)
            answer.flight = flight if joined else None
            return answer
        # The leader asked for the other form: wait for the whole answer and turn it round.
        whole: dict[str, Json] | None = await reader.result(patience)
        if whole is None or (call.stream and not _is_ordinary(call, whole)):
            return await self.relay(call, status)
        headers = call_headers(call, cache_status(COLLAPSED, head.received))
        if not call.stream:
            headers.append((b"content-type", JSON_TYPE))
            return Answer(200, headers, orjson.dumps(whole), Served.COLLAPSED, flight=flight)
        events = as_events(call, orjson.dumps(whole))
        return Answer(200, headers + SSE_HEADERS, events, Served.COLLAPSED, flight=flight)

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

    @asynccontextmanager
    async def _asked(
        self, call: Call, predicted: str | None
    ) -> AsyncIterator[tuple[Head, AsyncIterator[bytes]]]:
        """Ask the upstream, for usage too if it streams: an upstream that knows no such wish is
        asked again without, and from then on never for more than its client wants."""
        more = _asks_for_more(call)
        if more and call.group not in self._unmetered:
            async with await self._open(call, _body_to_send(call, predicted, more)) as upstream:
                head, (told, chunks) = head_of(upstream), (b"", upstream.chunks())
                if head.status in REFUSING:
                    told, chunks = await begun(chunks)
                if _WISH not in told:
                    yield head, chunks
                    return
        async with await self._open(call, _body_to_send(call, predicted)) as upstream:
            head = head_of(upstream)
            if more and head.status == 200:
                self._unmetered.add(call.group)
            yield head, upstream.chunks()

    async def _lead(self, call: Call, lookup: Lookup, flight: Flight, lease: Lease) -> None:
        """Make the upstream call, publish what comes, and store it if it may be stored."""
        began = Began(time.perf_counter(), self._admitter.now())
        async with led(lease, flight) as leading:
            async with self._asked(call, lookup.predicted) as (head, chunks):
                if head.status in REFUSING:
                    head = replace(head, refused=transport_of(call.body))
                flight.start(head)
                leading.start(head)
                async for chunk in chunks:
                    leading.feed(chunk)
                    await flight.feed(chunk)
            leading.finish()
            await self._land(call, lookup, flight, head, began, leading)

    async def _land(
        self,
        call: Call,
        lookup: Lookup,
        flight: Flight,
        head: Head,
        began: Began,
        leading: Led,
    ) -> None:
        """End a flight whose answer is complete, and store it."""
        cost = time.perf_counter() - began.clock
        raw = b"" if flight.overflowed else b"".join(flight.chunks)
        whole = await self._admitter.read(call, head, raw) if raw and head.readable else None
        self._count(call, lookup, head, whole)
        flight.finish(whole)
        await asyncio.sleep(0)  # the clients first: they need not wait for what storing takes
        outcome: str = LeaseOutcome.SUPERSEDED
        if await leading.may_store():
            with hop("admit") as span:
                outcome = await self._admitter.admit(
                    call, lookup, head, raw, whole, cost, began.asked
                )
                span.note("nearhit.outcome", outcome)
                if whole is not None:
                    span.note_answer(whole)
            leading.landed = outcome == Admission.STORED
        elif self._leasing is not None:
            self._leasing.count(LeaseOutcome.SUPERSEDED)
        if flight.overflowed:
            outcome = Admission.TOO_LARGE
        self._metrics.admissions.labels(self._metrics.category(call.category), outcome).inc()
        if lookup.shadow is not None and whole is not None and outcome == Admission.STORED:
            lookup.shadow(whole)
        if self._audits is not None and lookup.near is not None and whole is not None:
            if outcome == Admission.STORED:
                self._audits.consider_near_miss(call, lookup.near, whole, lookup.near_risk)

    def _count(self, call: Call, lookup: Lookup, head: Head, whole: dict[str, Json] | None) -> None:
        """Note what an answer used, and what whoever gets it later will not."""
        if self._usage is None or head.status != 200:
            return
        try:
            self._usage.used(call, whole, bypass=lookup.outcome is Outcome.BYPASS)
            if whole is not None:
                self._usage.learn(call.id, whole)
        except Exception:  # an upstream may say anything of what it used
            log.exception("what %s used was not counted", call.request.request_id)


def _asks_for_more(call: Call) -> bool:
    """Whether a JSON answer needs more than this client has asked for."""
    return call.stream and call.wire.ask_for_usage(call.body) is not call.body


def _body_to_send(call: Call, predicted: str | None, more: bool = False) -> bytes:
    """Return the client's own bytes, or with `more` the body that asks for it.

    `predicted` is passed along where there is one.
    """
    raw = call.request.raw
    if more:
        # The standard library keeps integers of any length as they were sent.
        raw = json.dumps(call.wire.ask_for_usage(json.loads(raw))).encode()
    return raw if predicted is None else with_prediction(raw, predicted)


def _is_ordinary(call: Call, whole: dict[str, Json]) -> bool:
    """Whether a JSON answer can be told as a stream."""
    return call.wire.refuse(whole, store_tool_calls=True) is None


async def _pass_on(
    call: Call, head: Head, status: bytes, chunks: AsyncIterator[bytes], stack: AsyncExitStack
) -> Answer:
    """Return an answer in the form in which it comes; it takes over what `stack` holds."""
    headers = head.headers + call_headers(call, cache_status(status, head.received))
    served = _SERVED.get(status, Served.BYPASS)
    if head.is_stream:
        return Answer(head.status, headers, Streamed(told(call, chunks), stack.pop_all()), served)
    if head.length is not None and head.length <= _WHOLE:
        return Answer(head.status, headers, b"".join([chunk async for chunk in chunks]), served)
    return Answer(head.status, headers, Streamed(chunks, stack.pop_all()), served)


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
