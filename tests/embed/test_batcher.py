"""Every caller gets its own text's vector, or an error, soon: in every order of events."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.batcher import MAX_FAILED_RETRIES, MEMO_TEXT_BYTES, Batcher, BatchFacts
from embed.encoder import T, Vector, Vectors
from embed.errors import EncoderFailed, Overloaded


def vector_of(text: str) -> Vector:
    """The fake's vector of a text: no two texts share one."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    row = np.random.default_rng(seed).standard_normal(8).astype(np.float32)
    return row / np.linalg.norm(row)


class GatedEncoder:
    """Encodes one batch each time the gate is opened; fails on poison."""

    checkpoint = "fake-1"
    dimension = 8
    max_tokens = 256

    def __init__(self, *, is_open: bool = False, poison: Sequence[str] = ()) -> None:
        self.batches: list[list[str]] = []
        self.poison = set(poison)
        self.is_open = is_open
        self._gate = asyncio.Semaphore(0)
        self._begun = asyncio.Condition()

    def fits(self, text: str) -> bool:
        return True

    def first_window(self, text: str) -> str | None:
        return text

    async def encode(self, texts: Sequence[str]) -> Vectors:
        self.batches.append(list(texts))
        async with self._begun:
            self._begun.notify_all()
        if not self.is_open:
            await self._gate.acquire()
        if bad := self.poison & set(texts):
            raise EncoderFailed(f"cannot read {sorted(bad)}")
        return np.stack([vector_of(text) for text in texts])

    async def aclose(self) -> None:
        self.is_open = True

    def release(self, batches: int = 1) -> None:
        """Let that many batches finish."""
        for _ in range(batches):
            self._gate.release()

    async def begun(self, count: int) -> None:
        """Wait until `count` batches have begun."""
        async with self._begun:
            await self._begun.wait_for(lambda: len(self.batches) >= count)


def ask(batcher: Batcher, *texts: str) -> list[asyncio.Task[Vector]]:
    return [asyncio.create_task(batcher.encode(text)) for text in texts]


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_lone_text_is_encoded_at_once() -> None:
    encoder = GatedEncoder(is_open=True)
    async with Batcher(encoder) as batcher:
        np.testing.assert_array_equal(await batcher.encode("hello"), vector_of("hello"))
    assert encoder.batches == [["hello"]]


async def test_a_batch_is_what_arrived_during_the_last_in_order() -> None:
    encoder = GatedEncoder()
    async with Batcher(encoder) as batcher:
        first = ask(batcher, "a")
        await encoder.begun(1)
        rest = ask(batcher, "b", "c", "d")
        await settle()
        assert batcher.waiting == 3
        encoder.release(2)
        await asyncio.gather(*first, *rest)
    assert encoder.batches == [["a"], ["b", "c", "d"]]


async def test_a_batch_is_bounded() -> None:
    encoder = GatedEncoder()
    async with Batcher(encoder, max_batch=2) as batcher:
        first = ask(batcher, "a")
        await encoder.begun(1)
        rest = ask(batcher, "b", "c", "d", "e", "f")
        await settle()
        encoder.release(4)
        await asyncio.gather(*first, *rest)
    assert encoder.batches == [["a"], ["b", "c"], ["d", "e"], ["f"]]


async def test_equal_texts_are_encoded_once_waiting_or_running() -> None:
    encoder = GatedEncoder()
    async with Batcher(encoder) as batcher:
        tasks = ask(batcher, "a")
        await encoder.begun(1)
        tasks += ask(batcher, "a", "b", "b", "b")
        await settle()
        assert batcher.waiting == 1
        encoder.release(2)
        vectors = await asyncio.gather(*tasks)
    assert encoder.batches == [["a"], ["b"]]
    for vector, text in zip(vectors, "aabbb", strict=True):
        np.testing.assert_array_equal(vector, vector_of(text))


async def test_a_recent_text_skips_the_encoder() -> None:
    encoder = GatedEncoder(is_open=True)
    async with Batcher(encoder) as batcher:
        assert await batcher.encode("a") is await batcher.encode("a")
    assert encoder.batches == [["a"]]


async def test_the_memo_forgets_what_was_used_longest_ago() -> None:
    encoder = GatedEncoder(is_open=True)
    async with Batcher(encoder, memo_size=2) as batcher:
        for text in ("a", "b", "a", "c", "a", "b"):
            await batcher.encode(text)
    assert encoder.batches == [["a"], ["b"], ["c"], ["b"]]


@pytest.mark.parametrize(
    ("text", "memo_size"),
    [
        pytest.param("x" * MEMO_TEXT_BYTES, 10, id="a long text"),
        pytest.param("\U0001f642" * (MEMO_TEXT_BYTES // 4), 10, id="few characters, many bytes"),
        pytest.param("x", 0, id="no memo"),
    ],
)
async def test_what_is_not_remembered_is_encoded_again(text: str, memo_size: int) -> None:
    encoder = GatedEncoder(is_open=True)
    async with Batcher(encoder, memo_size=memo_size) as batcher:
        await batcher.encode(text)
        np.testing.assert_array_equal(await batcher.encode(text), vector_of(text))
    assert len(encoder.batches) == 2


async def test_a_vector_is_read_only_since_it_is_shared() -> None:
    async with Batcher(GatedEncoder(is_open=True)) as batcher:
        vector = await batcher.encode("a")
        with pytest.raises(ValueError, match="read-only"):
            vector[0] = 1
    assert vector.base is None, "a view would keep its whole batch in memory"


async def test_too_many_waiting_texts_are_refused_but_equal_ones_join() -> None:
    encoder = GatedEncoder()
    async with Batcher(encoder, max_waiting=2) as batcher:
        tasks = ask(batcher, "running")
        await encoder.begun(1)
        tasks += ask(batcher, "b", "c")
        await settle()
        with pytest.raises(Overloaded, match="2 texts are already waiting"):
            await batcher.encode("d")
        tasks += ask(batcher, "c", "running")
        await settle()
        encoder.release(2)
        await asyncio.gather(*tasks)


async def test_who_hangs_up_frees_the_place_and_is_not_encoded() -> None:
    encoder = GatedEncoder()
    async with Batcher(encoder, max_waiting=1) as batcher:
        tasks = ask(batcher, "a")
        await encoder.begun(1)
        (gone,) = ask(batcher, "b")
        await settle()
        gone.cancel()
        await settle()
        assert batcher.waiting == 0
        tasks += ask(batcher, "c")
        await settle()
        encoder.release(2)
        await asyncio.gather(*tasks)
    assert encoder.batches == [["a"], ["c"]]


async def test_one_caller_hanging_up_leaves_those_who_asked_the_same() -> None:
    encoder = GatedEncoder()
    async with Batcher(encoder) as batcher:
        first = ask(batcher, "a")
        await encoder.begun(1)
        gone, stays = ask(batcher, "b", "b")
        await settle()
        gone.cancel()
        first[0].cancel()
        encoder.release(2)
        np.testing.assert_array_equal(await stays, vector_of("b"))


async def test_a_poisoned_text_fails_alone() -> None:
    encoder = GatedEncoder(poison=["bad"])
    async with Batcher(encoder) as batcher:
        first = ask(batcher, "a")
        await encoder.begun(1)
        good, bad, fine = ask(batcher, "good", "bad", "fine")
        await settle()
        encoder.is_open = True
        encoder.release()
        with pytest.raises(EncoderFailed, match=r"cannot read \['bad'\]"):
            await bad
        np.testing.assert_array_equal(await good, vector_of("good"))
        np.testing.assert_array_equal(await fine, vector_of("fine"))
        await first[0]
    assert encoder.batches[1:] == [["good", "bad", "fine"], ["good"], ["bad"], ["fine"]]


async def test_an_encoder_that_is_down_is_not_asked_for_every_text() -> None:
    texts = [str(number) for number in range(20)]
    encoder = GatedEncoder(poison=texts)
    async with Batcher(encoder) as batcher:
        first = ask(batcher, "first")
        await encoder.begun(1)
        tasks = ask(batcher, *texts)
        await settle()
        encoder.is_open = True
        encoder.release()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        await first[0]
        assert all(isinstance(error, EncoderFailed) for error in errors)
        assert len(encoder.batches) == 2 + MAX_FAILED_RETRIES
        encoder.poison.clear()
        np.testing.assert_array_equal(await batcher.encode("7"), vector_of("7"))


async def test_a_failure_is_not_remembered() -> None:
    encoder = GatedEncoder(is_open=True, poison=["a"])
    async with Batcher(encoder) as batcher:
        with pytest.raises(EncoderFailed):
            await batcher.encode("a")
        encoder.poison.clear()
        np.testing.assert_array_equal(await batcher.encode("a"), vector_of("a"))


@pytest.mark.parametrize("text", ["gone", "done", "bad"])
async def test_a_text_settled_while_its_batch_is_retried_can_be_asked_anew(text: str) -> None:
    encoder = GatedEncoder(poison=["bad"])
    async with Batcher(encoder, memo_size=0) as batcher:
        first = ask(batcher, "a")
        await encoder.begun(1)
        gone, done, bad, last = ask(batcher, "gone", "done", "bad", "last")
        await settle()
        encoder.release()
        await encoder.begun(2)
        gone.cancel()
        encoder.release(3)  # the batch fails; "done" succeeds; "bad" fails
        await encoder.begun(5)  # "last" is being retried
        (again,) = ask(batcher, text)
        await settle()
        encoder.poison.clear()
        encoder.release(2)
        async with asyncio.timeout(5):
            np.testing.assert_array_equal(await again, vector_of(text))
        await asyncio.gather(first[0], done, last)
        assert isinstance(bad.exception(), EncoderFailed)


async def test_bad_texts_among_good_ones_never_count_as_an_encoder_that_is_down() -> None:
    texts = [f"{kind} {number}" for number in range(9) for kind in ("good", "bad")]
    encoder = GatedEncoder(poison=texts[1::2])
    async with Batcher(encoder) as batcher:
        first = ask(batcher, "first")
        await encoder.begun(1)
        tasks = ask(batcher, *texts)
        await settle()
        encoder.is_open = True
        encoder.release()
        await asyncio.gather(*first, *tasks, return_exceptions=True)
    for text, task in zip(texts[::2], tasks[::2], strict=True):
        np.testing.assert_array_equal(task.result(), vector_of(text))


async def test_hanging_up_in_the_very_moment_of_the_answer_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = GatedEncoder(is_open=True)
    async with Batcher(encoder, memo_size=0) as batcher:
        gone, stays = ask(batcher, "a", "a")

        async def encode(texts: Sequence[str]) -> Vectors:
            gone.cancel()
            return np.stack([vector_of(text) for text in texts])

        monkeypatch.setattr(encoder, "encode", encode)
        np.testing.assert_array_equal(await stays, vector_of("a"))
        np.testing.assert_array_equal(await batcher.encode("b"), vector_of("b"))
        assert gone.cancelled()


async def test_a_worker_that_dies_leaves_nobody_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fatal(BaseException):
        pass

    async def encode(texts: Sequence[str]) -> Vectors:
        await settle()
        raise Fatal

    encoder = GatedEncoder()
    monkeypatch.setattr(encoder, "encode", encode)
    batcher = Batcher(encoder, max_batch=1)
    batcher.start()
    async with asyncio.timeout(5):
        errors = await asyncio.gather(*ask(batcher, "a", "b"), return_exceptions=True)
    assert [str(error) for error in errors] == ["the batcher has stopped"] * 2
    with pytest.raises(EncoderFailed, match="not running"):
        await batcher.encode("c")
    await batcher.aclose()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(RuntimeError("out of memory"), id="any exception"),
        pytest.param(asyncio.CancelledError(), id="its own work was cancelled"),
        pytest.param(np.zeros((2, 8), np.float32), id="a row too many"),
        pytest.param(np.zeros((1, 4), np.float32), id="another dimension"),
        pytest.param(None, id="nothing"),
    ],
)
async def test_whatever_the_encoder_does_callers_get_an_encoder_failure(
    fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def encode(texts: Sequence[str]) -> object:
        if isinstance(fault, BaseException):
            raise fault
        return fault

    encoder = GatedEncoder(is_open=True)
    async with Batcher(encoder) as batcher:
        with monkeypatch.context() as patch:
            patch.setattr(encoder, "encode", encode)
            with pytest.raises(EncoderFailed) as caught:
                await batcher.encode("a")
        assert str(caught.value)
        np.testing.assert_array_equal(await batcher.encode("a"), vector_of("a"))


async def test_closing_fails_who_waits_and_who_runs() -> None:
    encoder = GatedEncoder()
    batcher = Batcher(encoder)
    batcher.start()
    tasks = ask(batcher, "running")
    await encoder.begun(1)
    tasks += ask(batcher, "waiting")
    await settle()
    await batcher.aclose()
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(error, EncoderFailed)
    assert batcher.waiting == 0


async def test_closing_before_the_first_batch_fails_who_waits() -> None:
    batcher = Batcher(GatedEncoder())
    (early,) = ask(batcher, "early")
    batcher.start()
    await batcher.aclose()
    with pytest.raises(EncoderFailed):
        await early


async def test_closing_twice_or_unopened_is_harmless() -> None:
    batcher = Batcher(GatedEncoder())
    await batcher.aclose()
    batcher.start()
    await batcher.aclose()
    await batcher.aclose()


@pytest.mark.parametrize("was_open", [False, True], ids=["before start", "after aclose"])
async def test_a_batcher_that_does_not_run_says_so(was_open: bool) -> None:
    batcher = Batcher(GatedEncoder())
    if was_open:
        batcher.start()
        await batcher.aclose()
    with pytest.raises(EncoderFailed, match="not running"):
        await batcher.encode("a")


async def test_each_batch_is_reported() -> None:
    facts: list[BatchFacts] = []
    encoder = GatedEncoder(poison=["bad"])
    async with Batcher(encoder, on_batch=facts.append) as batcher:
        tasks = ask(batcher, "a")
        await encoder.begun(1)
        tasks += ask(batcher, "b", "bad")
        await settle()
        encoder.release(4)
        await asyncio.gather(*tasks, return_exceptions=True)
        await settle()
    assert [(fact.size, fact.failed, len(fact.waited)) for fact in facts] == [(1, 0, 1), (2, 1, 2)]
    assert all(fact.seconds >= 0 and min(fact.waited) >= 0 for fact in facts)


async def test_a_report_that_fails_is_logged_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(facts: BatchFacts) -> None:
        raise KeyError("metric")

    async with Batcher(GatedEncoder(is_open=True), on_batch=fail, memo_size=0) as batcher:
        for _ in range(2):
            np.testing.assert_array_equal(await batcher.encode("a"), vector_of("a"))
        await settle()
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


TEXTS = ("a", "b", "c", "d", "long " * 500, "poison")
EVENTS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(TEXTS)),
    st.tuples(st.just("hang up"), st.integers(0, 40)),
    st.tuples(st.just("finish"), st.integers(1, 3)),
    st.tuples(st.just("settle"), st.none()),
)


async def play(events: Sequence[tuple[str, object]], max_batch: int, memo_size: int) -> None:
    """Play the events, then let the encoder run freely; every caller must have its due."""
    encoder = GatedEncoder(poison=["poison"])
    asked: list[tuple[str, asyncio.Task[Vector]]] = []
    async with Batcher(encoder, max_batch=max_batch, max_waiting=4, memo_size=memo_size) as batcher:
        for kind, value in events:
            if kind == "ask":
                asked.append((str(value), asyncio.create_task(batcher.encode(str(value)))))
            elif kind == "hang up" and asked:
                asked[int(str(value)) % len(asked)][1].cancel()
            elif kind == "finish":
                encoder.release(int(str(value)))
            else:
                await settle()
            assert batcher.waiting <= 4
        encoder.is_open = True
        encoder.release(len(events) * 10)
        async with asyncio.timeout(5):
            await asyncio.gather(*(task for _, task in asked), return_exceptions=True)
    for text, task in asked:
        if task.cancelled() or isinstance(error := task.exception(), Overloaded):
            continue
        assert isinstance(error, EncoderFailed) is (text == "poison")
        if error is None:
            np.testing.assert_array_equal(task.result(), vector_of(text))
    assert batcher.waiting == 0
    assert all(len(batch) <= max_batch for batch in encoder.batches)


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, max_size=40), st.integers(1, 5), st.sampled_from([0, 2, 100]))
def test_in_every_order_of_events_each_caller_gets_its_own_text_s_vector(
    events: list[tuple[str, object]], max_batch: int, memo_size: int
) -> None:
    asyncio.run(play(events, max_batch, memo_size))


async def test_callers_who_share_a_failure_get_an_error_each() -> None:
    """A shared one would be raised twice, and grow by every caller's traceback."""
    encoder = GatedEncoder(is_open=True, poison=["bad"])
    async with Batcher(encoder) as batcher:
        errors = await asyncio.gather(*ask(batcher, "bad", "bad"), return_exceptions=True)
    assert errors[0] is not errors[1]
    assert [type(error) for error in errors] == [EncoderFailed] * 2


class ThreadedGatedEncoder(GatedEncoder):
    """Goes on with a vector where it was made."""

    async def encode_and(self, text: str, work: Callable[[Vector], T]) -> tuple[Vectors, T]:
        vectors = await self.encode([text])
        return vectors, work(vectors[0])


class Noted:
    """A sequel that notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.vector: Vector | None = None

    def begin(self) -> None:
        self.heard.append("begin")

    def run(self, vector: Vector) -> None:
        self.heard.append("run")
        self.vector = vector


async def test_what_one_caller_does_next_is_done_where_its_lone_text_was_encoded() -> None:
    sequel = Noted()
    async with Batcher(ThreadedGatedEncoder(is_open=True)) as batcher:
        vector = await batcher.encode("a", sequel)
    assert sequel.heard == ["begin", "run"]
    np.testing.assert_array_equal(sequel.vector, vector)


async def test_of_several_texts_at_once_no_sequel_keeps_the_others_waiting() -> None:
    encoder, sequels = ThreadedGatedEncoder(), [Noted() for _ in range(3)]
    async with Batcher(encoder) as batcher:
        tasks = [
            asyncio.create_task(batcher.encode(text, sequel))
            for text, sequel in zip("abc", sequels, strict=True)
        ]
        await encoder.begun(1)
        encoder.release(2)
        await asyncio.gather(*tasks)
    assert sum(map(len, encoder.batches)) == 3
    together = [s for s, text in zip(sequels, "abc", strict=True) if [text] not in encoder.batches]
    assert len(together) >= 2
    assert all(sequel.heard == [] for sequel in together)


async def test_an_encoder_without_a_thread_of_its_own_runs_no_sequel() -> None:
    sequel = Noted()
    async with Batcher(GatedEncoder(is_open=True)) as batcher:
        np.testing.assert_array_equal(await batcher.encode("a", sequel), vector_of("a"))
    assert sequel.heard == []


async def test_a_remembered_text_runs_no_sequel() -> None:
    sequel = Noted()
    async with Batcher(ThreadedGatedEncoder(is_open=True)) as batcher:
        await batcher.encode("a")
        await batcher.encode("a", sequel)
    assert sequel.heard == []


async def test_a_lone_text_that_fails_fails_for_all_who_wait() -> None:
    encoder = ThreadedGatedEncoder(is_open=True, poison=["a"])
    async with Batcher(encoder) as batcher:
        for sequel in (Noted(), Noted()):
            with pytest.raises(EncoderFailed, match="cannot read"):
                await batcher.encode("a", sequel)
            assert sequel.heard == ["begin"]
