"""A local flight that asks for its lease, without proxies and without Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admission import Admitter
from proxy.call import Call
from proxy.head import Head, pack, unpack
from proxy.leasing import LeadingAlone, Leasing, led
from proxy.metrics import Metrics
from proxy.upstream_errors import ModelUnknown, UpstreamBroken, UpstreamTimeout
from store.flight import Flight, Flights, LeaderGone
from store.leases import AnswerLanded, Kind, Leading, Lease, Piece
from tests.fakes_leases import Hub, MemoryLease, MemoryLeases

pytestmark = pytest.mark.serial

STREAM = Head(200, [(b"content-type", b"text/event-stream")], [], b"text/event-stream", None)
JSON = Head(200, [(b"content-type", b"application/json")], [], b"application/json", 4)
CALL = cast(Call, SimpleNamespace(request=SimpleNamespace(request_id="r")))
PATIENCE = 0.05  # seconds
LONG = 30.0


class Reads:
    """An admitter that reads bytes as they are."""

    async def read(self, call: Call, head: Head, raw: bytes) -> Any:
        return {"raw": raw}


class Replica:
    """One replica's flights and what its lead was told."""

    def __init__(self, hub: Hub) -> None:
        self.leases = MemoryLeases(hub)
        self.metrics = Metrics([], [])
        self.flights = Flights(1 << 20)
        self.lease: Lease | None = None
        self.caught_up: Callable[[], Any] = lambda: asyncio.sleep(0)
        self.leasing = Leasing(
            self.leases,
            admitter=cast(Admitter, Reads()),
            metrics=self.metrics,
            caught_up=lambda: self.caught_up(),
        )

    def fly(self, patience: float = LONG, mind_landed: bool = True) -> Flight:
        async def lead(flight: Flight) -> None:
            self.lease = await self.leasing.lease(CALL, flight, patience, mind_landed=mind_landed)
            if self.lease is not None:
                flight.finish("led")

        return self.flights.join_or_lead("k", lead)[0]

    def counts(self) -> dict[str, int]:
        samples = next(iter(self.metrics.lease_outcomes.collect())).samples
        return {s.labels["outcome"]: int(s.value) for s in samples if s.name.endswith("_total")}


@pytest.fixture
async def hub() -> Hub:
    return Hub(max_buffer=100)


@pytest.fixture
async def replica(hub: Hub) -> AsyncIterator[Replica]:
    replica = Replica(hub)
    yield replica
    await replica.flights.aclose()


async def elsewhere(hub: Hub) -> MemoryLease:
    """Return the lease of a leader on another replica."""
    standing = await MemoryLeases(hub).acquire("k")
    assert isinstance(standing, Leading)
    assert isinstance(standing.lease, MemoryLease)
    return standing.lease


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_gets_the_lease_leads(replica: Replica) -> None:
    async with replica.fly().follow() as reader:
        assert await reader.result() == "led"
    assert isinstance(replica.lease, MemoryLease)
    assert replica.counts() == {"led": 1}


async def test_who_is_told_nothing_leads_alone(replica: Replica) -> None:
    replica.leases.failing = True
    async with replica.fly().follow() as reader:
        assert await reader.result() == "led"
    assert isinstance(replica.lease, LeadingAlone)
    assert replica.counts() == {"unavailable": 1}


async def test_a_stream_is_relayed_from_its_first_chunk_on(hub: Hub, replica: Replica) -> None:
    lease = await elsewhere(hub)
    flight = replica.fly()
    async with flight.follow() as reader:
        lease.publish(Piece(Kind.HEAD, pack(STREAM)))
        await turns()
        assert not flight.started  # until then another call may take over
        lease.publish(Piece(Kind.CHUNK, b"one"))
        assert await reader.head() == STREAM
        chunks = aiter(reader.chunks())
        assert await anext(chunks) == b"one"
        lease.publish(Piece(Kind.CHUNK, b"two"))
        assert await anext(chunks) == b"two"
        lease.publish(Piece(Kind.END))
        assert await reader.result() == {"raw": b"onetwo"}
    assert flight.borrowed
    assert replica.lease is None
    assert replica.counts() == {"followed": 1}


async def test_a_json_answer_is_relayed_once_it_is_whole(hub: Hub, replica: Replica) -> None:
    lease = await elsewhere(hub)
    flight = replica.fly()
    async with flight.follow() as reader:
        lease.publish(Piece(Kind.HEAD, pack(JSON)))
        lease.publish(Piece(Kind.CHUNK, b"{"))
        await turns()
        assert not flight.started
        lease.publish(Piece(Kind.CHUNK, b"}"))
        lease.publish(Piece(Kind.END))
        assert await reader.result() == {"raw": b"{}"}


async def test_after_a_leader_that_died_before_its_first_chunk_somebody_leads(
    hub: Hub, replica: Replica
) -> None:
    lease = await elsewhere(hub)
    async with replica.fly().follow() as reader:
        lease.publish(Piece(Kind.HEAD, pack(STREAM)))
        await turns()
        lease.die()
        assert await reader.result() == "led"
    assert replica.counts() == {"taken_over": 1}


async def test_two_leaders_answers_are_never_spliced(hub: Hub, replica: Replica) -> None:
    lease = await elsewhere(hub)
    async with replica.fly().follow() as reader:
        lease.publish(Piece(Kind.HEAD, pack(STREAM)))
        lease.publish(Piece(Kind.CHUNK, b"one"))
        chunks = aiter(reader.chunks())
        assert await anext(chunks) == b"one"
        lease.die()
        with pytest.raises(LeaderGone):
            await anext(chunks)
    assert replica.lease is None
    assert replica.counts() == {"broken": 1}


async def test_a_silent_leader_is_left_only_before_its_first_chunk(
    hub: Hub, replica: Replica
) -> None:
    lease = await elsewhere(hub)
    async with replica.fly(PATIENCE).follow() as reader:
        lease.publish(Piece(Kind.HEAD, pack(STREAM)))
        assert await reader.result(LONG) == "led"
    assert isinstance(replica.lease, LeadingAlone)
    assert replica.counts() == {"silent": 1}


async def test_who_has_patience_elsewhere_is_not_silent_here(hub: Hub, replica: Replica) -> None:
    lease = await elsewhere(hub)
    async with replica.fly(LONG).follow() as reader:
        head = asyncio.create_task(reader.head(PATIENCE))
        await asyncio.sleep(2 * PATIENCE)
        lease.publish(Piece(Kind.HEAD, pack(STREAM)))
        lease.publish(Piece(Kind.CHUNK, b"one"))
        assert await head == STREAM


@pytest.mark.parametrize("head", [b"of another version", pack(STREAM)])
async def test_what_cannot_be_followed_is_left(hub: Hub, replica: Replica, head: bytes) -> None:
    lease = await elsewhere(hub)
    async with replica.fly().follow() as reader:
        lease.publish(Piece(Kind.HEAD, head))
        lease.publish(Piece(Kind.CHUNK, b"x" * 101))
        assert await reader.result() == "led"
    assert replica.counts() == {"closed": 1}


async def test_what_has_landed_is_looked_up_once_this_replica_caught_up(
    hub: Hub, replica: Replica
) -> None:
    (await elsewhere(hub)).release(landed=True)
    caught_up = asyncio.Event()
    replica.caught_up = caught_up.wait
    async with replica.fly().follow() as reader:
        waiting = asyncio.create_task(reader.head())
        await turns()
        assert not waiting.done()
        caught_up.set()
        with pytest.raises(AnswerLanded):
            await waiting
    async with replica.fly(mind_landed=False).follow() as reader:
        assert await reader.result() == "led"
    assert replica.counts() == {"landed": 1, "led": 1}


async def test_catching_up_is_waited_for_shortly(hub: Hub, replica: Replica) -> None:
    (await elsewhere(hub)).release(landed=True)
    replica.caught_up = asyncio.Event().wait
    async with replica.fly().follow() as reader, asyncio.timeout(1):
        with pytest.raises(AnswerLanded):
            await reader.head()


@pytest.mark.parametrize(
    "error", [ModelUnknown("no m"), UpstreamTimeout("late"), UpstreamBroken("cut")]
)
async def test_an_upstreams_error_is_told_to_followers_as_it_was(
    hub: Hub, replica: Replica, error: Exception
) -> None:
    lease = await elsewhere(hub)
    flight = Flight("k", 10, lambda _: None)
    async with replica.fly().follow() as reader:
        with pytest.raises(type(error)):
            async with led(lease, flight):
                await turns()
                raise error
        with pytest.raises(type(error), match=str(error)):
            await reader.head()
    assert not lease.leads


async def test_a_leader_that_is_cancelled_leaves_the_lead_to_another(
    hub: Hub, replica: Replica
) -> None:
    lease = await elsewhere(hub)
    flight = Flight("k", 10, lambda _: None)
    async with replica.fly().follow() as reader:
        with pytest.raises(asyncio.CancelledError):
            async with led(lease, flight):
                await turns()
                raise asyncio.CancelledError
        assert await reader.result() == "led"
    assert replica.counts() == {"taken_over": 1}


async def test_a_call_that_is_wanted_elsewhere_goes_on_until_it_is_not(hub: Hub) -> None:
    lease = await elsewhere(hub)
    flights = Flights(100)

    async def lead(flight: Flight) -> None:
        async with led(lease, flight):
            await asyncio.Event().wait()

    flight, _ = flights.join_or_lead("k", lead)
    lease.followers = 1
    async with flight.follow():
        await turns()
    assert not flight.ended
    lease.followers = 0
    lease.unwanted()
    assert flight.ended
    await flights.aclose()
    assert not lease.leads


_names = st.sampled_from([b"content-type", b"x-a", b"openai-model"])
_pairs = st.lists(st.tuples(_names, st.binary(max_size=20)))


@given(
    status=st.integers(100, 599),
    headers=_pairs,
    theirs=st.binary(max_size=9),
    content_type=st.binary(max_size=20),
    length=st.none() | st.integers(0, 1 << 40),
)
def test_a_head_crosses_whole_but_for_what_nobody_reads(
    status: int,
    headers: list[tuple[bytes, bytes]],
    theirs: bytes,
    content_type: bytes,
    length: int | None,
) -> None:
    read = [(b"Cache-Status", theirs), (b"content-encoding", theirs)]
    head = Head(status, headers, [*read, (b"set-cookie", b"secret")], content_type, length)
    assert unpack(pack(head)) == Head(status, headers, read, content_type, length)
