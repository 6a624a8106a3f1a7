"""Shared flights across replicas: one of them leads, the others relay what it publishes.

A local flight asks for the lease of its key before it calls upstream. The cache never depends on
it: where the leases cannot be asked, every replica leads for itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

import orjson

from proxy.admission import Admitter
from proxy.call import Call
from proxy.head import Head, pack, unpack
from proxy.metrics import Metrics
from proxy.upstream_errors import (
    ModelUnknown,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from store.errors import StoreUnavailable
from store.flight import Flight, LeaderGone, LeaderSilent
from store.leases import (
    AnswerLanded,
    Closed,
    Following,
    Kind,
    Landed,
    Leading,
    Lease,
    Leases,
    NotShareable,
    Partial,
    Piece,
)

log = logging.getLogger("nearhit.leasing")

_CATCH_UP = 0.1  # seconds that an answer which has landed elsewhere gets to be seen here
_AGAIN = 0.05  # seconds before a lease is asked for again whose leader is gone and which still is
_HELD_BACK = 1024 * 1024  # bytes of a JSON answer, after which it is relayed as it comes
_MOST_LEADERS = 20  # that are followed or asked about one after another
_FAILURES: dict[str, type[UpstreamError]] = {
    kind.__name__: kind
    for kind in (ModelUnknown, UpstreamUnavailable, UpstreamTimeout, UpstreamBroken)
}


class LeaseOutcome(StrEnum):
    """The label of nearhit_lease_outcomes_total."""

    LED = "led"
    TAKEN_OVER = "taken_over"
    FOLLOWED = "followed"
    LANDED = "landed"
    SILENT = "silent"
    CLOSED = "closed"
    BROKEN = "broken"
    UNAVAILABLE = "unavailable"
    SUPERSEDED = "superseded"


class LeadingAlone:
    """Leads without a lease: nobody elsewhere follows."""

    token = 0
    lost = False
    wanted = False

    def __init__(self) -> None:
        self.unwanted: Callable[[], None] = lambda: None

    def publish(self, piece: Piece) -> None:
        """Tell nobody."""

    async def confirm(self) -> bool:
        """Whether the answer may be stored: yes."""
        return True

    def release(self, *, landed: bool) -> None:
        """Let go of nothing."""


class Led:
    """One call that this replica leads, for its own clients and for those elsewhere."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self.landed = False  # set once the answer is stored and visible

    def start(self, head: Head) -> None:
        """Publish the head."""
        if not isinstance(self._lease, LeadingAlone):  # packing is work
            self._lease.publish(Piece(Kind.HEAD, pack(head)))

    def feed(self, chunk: bytes) -> None:
        """Publish a chunk."""
        self._lease.publish(Piece(Kind.CHUNK, chunk))

    def finish(self) -> None:
        """Publish that the answer is complete."""
        self._lease.publish(Piece(Kind.END))

    async def may_store(self) -> bool:
        """Whether nobody else leads by now, whose answer would be the newer one."""
        return await self._lease.confirm()


@asynccontextmanager
async def led(lease: Lease, flight: Flight) -> AsyncIterator[Led]:
    """Lead under a lease; whatever happens, followers are told and the lease is let go."""
    call = Led(lease)
    flight.wanted_elsewhere = lambda: lease.wanted
    lease.unwanted = flight.stop_if_unwanted
    try:
        yield call
    except UpstreamError as error:
        told = [type(error).__name__, str(error), getattr(error, "param", None)]
        lease.publish(Piece(Kind.FAILED, orjson.dumps(told)))
        raise
    except BaseException:
        if not flight.ended or flight.error is not None:
            lease.publish(Piece(Kind.GONE))
        raise
    finally:
        flight.wanted_elsewhere = lambda: False
        lease.unwanted = lambda: None
        lease.release(landed=call.landed)


class Leasing:
    """Decides for a local flight whether it leads, and relays another's answer if not."""

    def __init__(
        self,
        leases: Leases,
        *,
        admitter: Admitter,
        metrics: Metrics,
        caught_up: Callable[[], Awaitable[None]],
    ) -> None:
        """`caught_up` returns once this replica has applied what the others had stored by then."""
        self._leases = leases
        self._admitter = admitter
        self._metrics = metrics
        self._caught_up = caught_up

    def count(self, outcome: LeaseOutcome) -> None:
        """Count what a miss came to."""
        self._metrics.lease_outcomes.labels(outcome).inc()

    async def lease(
        self, call: Call, flight: Flight, patience: float, *, mind_landed: bool
    ) -> Lease | None:
        """Return what to lead under; None when the flight got its answer from another's leader.

        Raises AnswerLanded when that is stored already, LeaderGone when the leader died after
        some of its answer was relayed, and the upstream's error that the leader was told.
        """
        flight.hold_patience()
        try:
            lease = await self._lease(call, flight, patience, mind_landed)
        finally:
            if not flight.started:
                flight.sign()
        return lease

    async def _lease(
        self, call: Call, flight: Flight, patience: float, mind_landed: bool
    ) -> Lease | None:
        died, gone, silent = False, 0, 0
        for _ in range(_MOST_LEADERS):
            try:
                standing = await self._leases.acquire(flight.id, mind_landed=mind_landed)
            except StoreUnavailable as error:
                log.debug("%s leads alone: %s", call.request.request_id, error)
                self.count(LeaseOutcome.UNAVAILABLE)
                return LeadingAlone()
            match standing:
                case Leading(lease):
                    self.count(LeaseOutcome.TAKEN_OVER if died else LeaseOutcome.LED)
                    return lease
                case Landed():
                    await self._catch_up()
                    self.count(LeaseOutcome.LANDED)
                    raise AnswerLanded
                case Closed():
                    break
                case Following(token, partial):
                    if token == silent:  # it is alive
                        self.count(LeaseOutcome.SILENT)
                        return LeadingAlone()
                    if token == gone:
                        await asyncio.sleep(_AGAIN)
                    outcome = await self._follow(call, flight, partial, patience)
                    if outcome is LeaseOutcome.SILENT:  # or dead, and nobody has noticed
                        died, silent = True, token
                        continue
                    if outcome is LeaseOutcome.BROKEN:
                        died, gone = True, token
                        continue
                    self.count(outcome)
                    return None if outcome is LeaseOutcome.FOLLOWED else LeadingAlone()
        self.count(LeaseOutcome.CLOSED)
        return LeadingAlone()

    async def _follow(
        self, call: Call, flight: Flight, partial: Partial, patience: float
    ) -> LeaseOutcome:
        """Relay a leader's answer to the flight; say what came of it.

        BROKEN: nothing was relayed yet, so that another may lead. Nothing is before the first
        chunk of a stream, or before the end of a JSON answer: half of one helps nobody.
        """
        relayed = False
        try:
            async with partial:
                piece = await partial.next(patience)
                if piece.kind is Kind.FAILED:
                    raise _failure(piece)
                head, waiting, size = unpack(piece.data), list[bytes](), 0
                while piece.kind is not Kind.END:
                    piece = await partial.next(None if relayed else patience)
                    if piece.kind is Kind.FAILED:
                        raise _failure(piece)
                    if piece.kind is Kind.CHUNK:
                        waiting.append(piece.data)
                        size += len(piece.data)
                    if head.is_stream or piece.kind is Kind.END or size > _HELD_BACK:
                        if not relayed:
                            flight.borrowed = relayed = True
                            flight.start(head)
                        for chunk in waiting:
                            await flight.feed(chunk)
                        waiting.clear()
        except LeaderSilent:
            return LeaseOutcome.SILENT
        except (NotShareable, ValueError):  # or what another version has published
            if not relayed:
                return LeaseOutcome.CLOSED
            self.count(LeaseOutcome.BROKEN)
            raise
        except LeaderGone:
            if not relayed:
                return LeaseOutcome.BROKEN
            self.count(LeaseOutcome.BROKEN)
            raise
        except UpstreamError:
            self.count(LeaseOutcome.FOLLOWED)
            raise
        raw = b"" if flight.overflowed else b"".join(flight.chunks)
        whole = await self._admitter.read(call, head, raw) if raw and head.readable else None
        flight.finish(whole)
        return LeaseOutcome.FOLLOWED

    async def _catch_up(self) -> None:
        try:
            async with asyncio.timeout(_CATCH_UP):
                await self._caught_up()
        except TimeoutError:
            pass  # the lookup that follows sees it or does not


def _failure(piece: Piece) -> UpstreamError:
    """Return the upstream's error that a leader was told."""
    name, message, param = orjson.loads(piece.data)
    error = _FAILURES.get(name, UpstreamBroken)(message)
    if isinstance(error, ModelUnknown) and param is not None:
        error.param = param
    return error
