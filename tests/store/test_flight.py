from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import flight
from store.flight import Flight, Flights, LeaderGone, LeaderSilent

HEAD = (200, {"content-type": "text/event-stream"})
PARTS = [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"]
PATIENCE = 0.02  # seconds
LONG = 30.0


class Upstream:
    """A lead whose every step the test decides on."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.returned = False
        self.flight: Flight | None = None
        self._steps: asyncio.Queue[tuple[str, object]] = asyncio.Queue()

    def do(self, step: str, value: object = None) -> None:
        self._steps.put_nowait((step, value))

    async def __call__(self, flight: Flight) -> None:
        self.calls += 1
        self.flight = flight
        try:
            while True:
                step, value = await self._steps.get()
                if step == "start":
                    flight.start(value)
                elif step == "feed":
                    assert isinstance(value, bytes)
                    await flight.feed(value)
                elif step == "finish":
                    flight.finish(value)
                elif step == "raise":
                    assert isinstance(value, Exception)
                    raise value
                elif step == "return":
                    self.returned = True
                    return
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def answer(self) -> None:
        """Do all of a good answer."""
        self.do("start", HEAD)
        for part in PARTS:
            self.do("feed", part)
        self.do("finish", "whole")
        self.do("return")


@pytest.fixture
async def flights(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Flights]:
    # Many of these tests leave a leader behind that stores nothing: closing need not wait long.
    monkeypatch.setattr(flight, "STORING_SECONDS", 0.2)
    gc.freeze()  # the collection below is of what this test leaves, not of all that is loaded
    flights = Flights(max_buffer=1000)
    yield flights
    await flights.aclose()
    gc.collect()  # an exception that nobody retrieved would be reported here
    gc.unfreeze()


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def read(flight: Flight, patience: float | None = None) -> bytes:
    async with flight.follow() as reader:
        await reader.head(patience)
        return b"".join([chunk async for chunk in reader.chunks(patience)])


# One call, many readers


async def test_the_leader_is_called_once_and_everybody_reads_the_same(
    flights: Flights, upstream: Upstream
) -> None:
    readers, joined = [], []
    for _ in range(100):
        flight, was_there = flights.join_or_lead("k", upstream)
        readers.append(asyncio.create_task(read(flight)))
        joined.append(was_there)
    upstream.answer()
    assert set(await asyncio.gather(*readers)) == {b"".join(PARTS)}
    assert upstream.calls == 1
    assert joined == [False] + [True] * 99


async def test_other_keys_have_leaders_of_their_own(flights: Flights, upstream: Upstream) -> None:
    one, _ = flights.join_or_lead("k", upstream)
    other, joined = flights.join_or_lead("l", upstream)
    assert one is not other
    assert not joined


async def test_chunks_come_live(flights: Flights, upstream: Upstream) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow() as reader:
        upstream.do("start", HEAD)
        assert await reader.head() == HEAD
        chunks = aiter(reader.chunks())
        for part in PARTS:
            upstream.do("feed", part)
            assert await anext(chunks) == part
        upstream.do("finish")
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)


async def test_a_late_reader_gets_everything_from_the_first_chunk_on(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow() as first:
        upstream.do("start", HEAD)
        upstream.do("feed", PARTS[0])
        chunks = aiter(first.chunks())
        assert await anext(chunks) == PARTS[0]
        late, joined = flights.join_or_lead("k", upstream)
        assert joined
        reading = asyncio.create_task(read(late))
        upstream.do("feed", PARTS[1])
        upstream.do("finish")
        assert await anext(chunks) == PARTS[1]
        assert await reading == PARTS[0] + PARTS[1]


async def test_a_json_reader_waits_for_the_result(flights: Flights, upstream: Upstream) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow() as reader:
        upstream.answer()
        assert await reader.head() == HEAD
        assert await reader.result() == "whole"
        assert flight.result == "whole"


async def test_an_answer_without_a_head_has_none(flights: Flights, upstream: Upstream) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow() as reader:
        upstream.do("finish", "whole")
        assert await reader.head() is None
        assert [chunk async for chunk in reader.chunks()] == []


# The end


async def test_after_the_end_newcomers_join_until_the_lead_returns(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow() as reader:
        upstream.do("start", HEAD)
        upstream.do("feed", PARTS[0])
        upstream.do("finish", "whole")
        await reader.result()
    late, joined = flights.join_or_lead("k", upstream)  # between the end and the entry
    assert joined
    assert await read(late) == PARTS[0]
    assert upstream.cancelled == 0  # leaving after the end harms nothing
    upstream.do("return")
    await turns()
    assert upstream.returned
    assert len(flights) == 0
    _, joined = flights.join_or_lead("k", upstream)
    assert not joined
    assert await read(flight) == PARTS[0]  # whoever holds it may still read


async def test_the_landing_of_an_answer_that_is_being_stored_can_be_waited_for(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow() as reader:
        await flights.landed("k", LONG)  # still under way: nothing to wait for
        upstream.do("finish", "whole")
        await reader.result()
    landing = asyncio.create_task(flights.landed("k", LONG))
    await turns()
    assert not landing.done()
    upstream.do("return")
    await landing
    assert upstream.returned
    await flights.landed("k", LONG)  # gone: nothing to wait for


async def test_the_wait_for_a_landing_is_bounded_and_harms_nothing(
    flights: Flights, upstream: Upstream
) -> None:
    flights.join_or_lead("k", upstream)
    upstream.do("finish", "whole")
    await turns()
    await flights.landed("k", PATIENCE)
    assert upstream.cancelled == 0
    upstream.do("return")
    await turns()
    assert upstream.returned


async def test_a_failure_reaches_everybody_after_the_chunks_that_came_before(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)

    async def read_until_it_breaks() -> tuple[list[bytes], str]:
        got = list[bytes]()
        async with flight.follow() as reader:
            try:
                async for chunk in reader.chunks():
                    got.append(chunk)
            except ConnectionError as error:
                return got, str(error)
        return got, "no error"

    async def wait_for_result() -> None:
        async with flight.follow() as reader:
            await reader.result()

    streams = [asyncio.create_task(read_until_it_breaks()) for _ in range(3)]
    waiting = asyncio.create_task(wait_for_result())
    await turns()
    upstream.do("start", HEAD)
    upstream.do("feed", PARTS[0])
    upstream.do("raise", ConnectionError("upstream hung up"))
    assert await asyncio.gather(*streams) == [([PARTS[0]], "upstream hung up")] * 3
    with pytest.raises(ConnectionError, match="upstream hung up"):
        await waiting
    assert len(flights) == 0


async def test_a_failure_before_the_head_is_raised_by_the_head(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    upstream.do("raise", ConnectionError("refused"))
    async with flight.follow() as reader:
        with pytest.raises(ConnectionError, match="refused"):
            await reader.head()


async def test_a_failure_that_nobody_reads_is_silent(flights: Flights, upstream: Upstream) -> None:
    flights.join_or_lead("k", upstream)
    upstream.do("raise", ConnectionError("refused"))
    await turns()
    assert len(flights) == 0


async def test_one_failure_raised_to_many_does_not_pile_up_their_frames(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    upstream.do("raise", ConnectionError("refused"))
    lengths = []
    for _ in range(5):
        async with flight.follow() as reader:
            with pytest.raises(ConnectionError) as caught:
                await reader.head()
            lengths.append(len(caught.traceback))
    assert len(set(lengths)) == 1


async def test_a_lead_that_returns_without_an_answer_is_an_error(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    upstream.do("return")
    async with flight.follow() as reader:
        with pytest.raises(LeaderGone, match="without an answer"):
            await reader.result()


async def test_a_failure_after_the_end_is_logged_and_harms_no_reader(
    flights: Flights, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow() as reader:
        upstream.do("finish", "whole")
        upstream.do("raise", RuntimeError("admission broke"))
        assert await reader.result() == "whole"
        await turns()
    assert "failed after its answer was complete" in caplog.text
    assert len(flights) == 0


async def test_only_the_first_ending_counts(flights: Flights, upstream: Upstream) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    flight.finish("first")
    flight.finish("second")
    flight.fail(RuntimeError("third"))
    assert (flight.result, flight.error) == ("first", None)


# Leaving


async def test_the_last_reader_to_leave_cancels_the_call(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    first, second = asyncio.create_task(read(flight)), asyncio.create_task(read(flight))
    await turns()
    first.cancel()
    await turns()
    assert upstream.cancelled == 0
    second.cancel()
    await turns()
    assert upstream.cancelled == 1
    assert len(flights) == 0


async def test_the_one_who_led_may_leave_and_the_others_go_on(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    leader = asyncio.create_task(read(flight))
    follower = asyncio.create_task(read(flight))
    upstream.do("start", HEAD)
    await turns()
    leader.cancel()
    upstream.answer()
    assert await follower == b"".join(PARTS)
    assert upstream.cancelled == 0


async def test_a_call_that_everybody_left_is_joined_by_nobody(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow():
        pass  # leaves before the leader has even begun
    again, joined = flights.join_or_lead("k", upstream)
    assert not joined
    assert again is not flight
    async with flight.follow() as reader:
        with pytest.raises(LeaderGone, match="has left"):
            await reader.head()


async def test_closing_cancels_leaders_and_tells_readers(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    reading = asyncio.create_task(read(flight))
    await turns()
    await flights.aclose()
    with pytest.raises(LeaderGone):
        await reading
    assert upstream.cancelled == 1


async def test_closing_before_the_leader_began_tells_readers_too(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    await flights.aclose()
    with pytest.raises(LeaderGone):
        await read(flight)
    assert upstream.calls == 0


# Patience


async def test_a_follower_leaves_a_silent_leader(flights: Flights, upstream: Upstream) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow():  # the one who led waits on
        for wait in ("head", "chunks", "result"):
            async with flight.follow() as reader:
                with pytest.raises(LeaderSilent, match=r"silent for 0.02 s"):
                    if wait == "head":
                        await reader.head(PATIENCE)
                    elif wait == "chunks":
                        await anext(aiter(reader.chunks(PATIENCE)))
                    else:
                        await reader.result(PATIENCE)
        assert upstream.cancelled == 0


async def test_silence_counts_from_the_leaders_last_sign_not_from_joining(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    flight.last_sign -= LONG
    async with flight.follow() as reader:
        with pytest.raises(LeaderSilent):
            await reader.head(LONG)


async def test_a_sign_of_life_renews_patience(flights: Flights, upstream: Upstream) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    flight.last_sign -= LONG
    async with flight.follow() as reader:
        upstream.do("start", HEAD)
        upstream.do("feed", PARTS[0])
        await turns()
        assert await reader.head(LONG) == HEAD
        assert await anext(aiter(reader.chunks(LONG))) == PARTS[0]


async def test_a_reader_that_has_bytes_waits_for_the_rest(
    flights: Flights, upstream: Upstream
) -> None:
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow() as reader:
        upstream.do("feed", PARTS[0])
        chunks = aiter(reader.chunks(PATIENCE))
        assert await anext(chunks) == PARTS[0]
        flight.last_sign -= LONG
        upstream.do("feed", PARTS[1])
        assert await anext(chunks) == PARTS[1]


# More than the buffer holds


async def test_a_long_answer_is_whole_for_its_readers_and_closed_to_newcomers(
    upstream: Upstream,
) -> None:
    flights = Flights(max_buffer=20)
    flight, _ = flights.join_or_lead("k", upstream)
    reading = [asyncio.create_task(read(flight)) for _ in range(3)]
    await turns()
    parts = [b"%02d" % number * 4 for number in range(50)]
    upstream.do("start", HEAD)
    for part in parts:
        upstream.do("feed", part)
    upstream.do("finish", "whole")
    upstream.do("return")
    assert await asyncio.gather(*reading) == [b"".join(parts)] * 3
    assert flight.overflowed
    assert len(flights) == 0
    with pytest.raises(LeaderGone, match="no longer kept"):
        await read(flight)
    await flights.aclose()


async def test_an_answer_that_just_fits_did_not_overflow(upstream: Upstream) -> None:
    flights = Flights(max_buffer=sum(map(len, PARTS)))
    flight, _ = flights.join_or_lead("k", upstream)
    upstream.answer()
    assert await read(flight) == b"".join(PARTS)
    assert not flight.overflowed
    await flights.aclose()


async def test_beyond_the_buffer_the_leader_waits_for_the_slowest_reader(
    upstream: Upstream,
) -> None:
    flights = Flights(max_buffer=20)
    flight, _ = flights.join_or_lead("k", upstream)
    fast = asyncio.create_task(read(flight))
    async with flight.follow() as slow:
        for number in range(10):
            upstream.do("feed", b"%d" % number * 10)
        upstream.do("finish")
        upstream.do("return")
        await turns(50)
        assert len(flight.chunks) == 3  # the two that fit and the one on its way
        assert not flight.ended
        chunks = aiter(slow.chunks())
        assert await anext(chunks) == b"0" * 10
        await turns(50)
        assert len(flight.chunks) == 3
        assert not fast.done()
    # the slow one has left
    flight.start(HEAD)
    assert len(await fast) == 100
    await flights.aclose()


async def test_a_json_reader_holds_up_no_long_answer(upstream: Upstream) -> None:
    flights = Flights(max_buffer=20)
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow() as reader:
        for _ in range(10):
            upstream.do("feed", b"0123456789")
        upstream.do("finish", "assembled")
        upstream.do("return")
        assert await reader.result() == "assembled"
    await flights.aclose()


async def test_a_leader_that_waits_for_a_reader_is_not_silent(upstream: Upstream) -> None:
    flights = Flights(max_buffer=20)
    flight, _ = flights.join_or_lead("k", upstream)
    async with flight.follow() as slow, flight.follow() as waiting:
        for _ in range(4):
            upstream.do("feed", b"0123456789")
        result = asyncio.create_task(waiting.result(PATIENCE))
        await asyncio.sleep(3 * PATIENCE)
        assert not result.done()
        chunks = aiter(slow.chunks())
        for _ in range(4):
            await anext(chunks)
        with pytest.raises(LeaderSilent):  # now it owes the end
            await result
    await flights.aclose()


async def test_a_long_answer_that_nobody_follows_yet_does_not_hang(upstream: Upstream) -> None:
    flights = Flights(max_buffer=20)
    flights.join_or_lead("k", upstream)
    for _ in range(10):
        upstream.do("feed", b"0123456789")
    upstream.do("finish")
    upstream.do("return")
    await turns(50)
    assert upstream.returned
    await flights.aclose()


# Any interleaving


@dataclass
class Party:
    """A reader in a random history, and what became of it."""

    task: asyncio.Task[bytes]
    got: list[bytes] = field(default_factory=list)
    left: bool = False


STEPS = st.lists(
    st.one_of(
        st.just(("join", 0)),
        st.tuples(st.just("leave"), st.integers(0, 30)),
        st.tuples(st.just("feed"), st.integers(0, 12)),
        st.tuples(st.just("turn"), st.integers(1, 4)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, max_buffer=st.sampled_from([1, 15, 10_000]), fails=st.booleans())
def test_no_history_of_joining_and_leaving_harms_those_who_stay(
    steps: list[tuple[str, int]], max_buffer: int, fails: bool
) -> None:
    asyncio.run(live_through(steps, max_buffer, fails))


async def live_through(steps: list[tuple[str, int]], max_buffer: int, fails: bool) -> None:
    flights, upstream = Flights(max_buffer), Upstream()
    flight, joined = flights.join_or_lead("k", upstream)
    assert not joined
    parties, fed = [join(flight)], list[bytes]()
    for verb, number in steps:
        if verb == "join":
            again = flights._joinable.get("k")
            if again is not None:
                assert again is flight
                parties.append(join(flight))
        elif verb == "leave":
            party = parties[number % len(parties)]
            party.task.cancel()
            party.left = True
        elif verb == "feed":
            fed.append(bytes([len(fed) % 251]) * number)
            upstream.do("feed", fed[-1])
        else:
            await turns(number)
        if all(party.left for party in parties):
            break
    if not all(party.left for party in parties):
        upstream.do(*(("raise", ConnectionError("cut")) if fails else ("finish", None)))
        upstream.do("return")
    outcomes = await asyncio.gather(*(party.task for party in parties), return_exceptions=True)
    await turns(5)
    assert upstream.calls <= 1  # none when everybody left before it began
    stayed = [outcome for party, outcome in zip(parties, outcomes, strict=True) if not party.left]
    for party in parties:
        assert b"".join(fed).startswith(b"".join(party.got))
    if stayed:
        assert upstream.cancelled == 0
        for party, outcome in zip(parties, outcomes, strict=True):
            if not party.left:
                assert party.got == fed
                assert isinstance(outcome, ConnectionError) if fails else outcome == b"".join(fed)
    else:
        assert upstream.cancelled == upstream.calls
        assert not upstream.returned
    assert len(flights) == 0
    await flights.aclose()


def join(flight: Flight) -> Party:
    """Follow from this moment on, as `async with` without an await in between does."""
    reader = flight.follow()
    entering = reader.__aenter__()
    with pytest.raises(StopIteration):
        entering.send(None)

    async def go() -> bytes:
        async for chunk in reader.chunks():
            party.got.append(chunk)
        return b"".join(party.got)

    def leave(task: asyncio.Task[bytes]) -> None:
        flight.leave(reader)

    party = Party(asyncio.create_task(go()))
    party.task.add_done_callback(leave)
    return party


async def test_closing_lets_a_complete_answer_be_stored_and_cancels_the_rest() -> None:
    flights = Flights()
    stored: list[str] = []
    storing, cancelled = asyncio.Event(), asyncio.Event()

    async def complete(flight: Flight) -> None:
        flight.start(None)
        flight.finish("whole")
        storing.set()
        await asyncio.sleep(0.05)
        stored.append("whole")

    async def endless(flight: Flight) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    flights.join_or_lead("a", complete)
    flights.join_or_lead("b", endless)
    await storing.wait()
    await flights.aclose()
    assert stored == ["whole"]
    assert cancelled.is_set()
    assert len(flights) == 0
