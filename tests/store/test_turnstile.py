from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from store.turnstile import Turnstile

PATIENCE = 5.0  # seconds until a test that hangs fails
MOMENT = 0.05  # seconds in which something that must not happen would have happened


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


@contextmanager
def inside(side: Callable[[], object], threads: ThreadPoolExecutor) -> Iterator[threading.Event]:
    """Have a thread go in and stay; yields the event that is set once it is in."""
    entered, leave = threading.Event(), threading.Event()

    def visit() -> None:
        with side():  # type: ignore[attr-defined]
            entered.set()
            leave.wait(PATIENCE)

    visit_over: Future[None] = threads.submit(visit)
    try:
        yield entered
    finally:
        leave.set()
        visit_over.result(PATIENCE)


def test_readers_share(threads: ThreadPoolExecutor) -> None:
    turnstile = Turnstile()
    with inside(turnstile.reading, threads) as first, inside(turnstile.reading, threads) as second:
        assert first.wait(PATIENCE) and second.wait(PATIENCE)


def test_a_writer_waits_for_readers_and_holds_off_new_ones(threads: ThreadPoolExecutor) -> None:
    turnstile = Turnstile()
    with inside(turnstile.reading, threads) as reader:
        assert reader.wait(PATIENCE)
        written = threads.submit(write_once, turnstile)
        assert not written.done()
        while not turnstile._writer:  # until it waits at the turnstile
            threading.Event().wait(0.001)
        late = threads.submit(read_once, turnstile)
        assert not late_done(late)
    assert written.result(PATIENCE) and late.result(PATIENCE)


def test_a_reader_waits_while_the_writer_writes(threads: ThreadPoolExecutor) -> None:
    turnstile = Turnstile()
    with inside(turnstile.writing, threads) as writer:
        assert writer.wait(PATIENCE)
        reader = threads.submit(read_once, turnstile)
        assert not late_done(reader)
    assert reader.result(PATIENCE)


def test_a_writer_that_never_rests_lets_readers_in_between(threads: ThreadPoolExecutor) -> None:
    turnstile, stop = Turnstile(), threading.Event()

    def write_on() -> None:
        while not stop.is_set():
            write_once(turnstile)

    writer = threads.submit(write_on)
    readers = [threads.submit(read_once, turnstile) for _ in range(200)]
    assert all(reader.result(PATIENCE) for reader in readers)
    stop.set()
    writer.result(PATIENCE)


def test_readers_that_never_rest_let_the_writer_in(threads: ThreadPoolExecutor) -> None:
    turnstile, stop = Turnstile(), threading.Event()

    def read_on() -> None:
        while not stop.is_set():
            read_once(turnstile)

    readers = [threads.submit(read_on) for _ in range(3)]
    for _ in range(100):
        assert threads.submit(write_once, turnstile).result(PATIENCE)
    stop.set()
    for reader in readers:
        reader.result(PATIENCE)


def test_nobody_ever_reads_what_is_half_written(threads: ThreadPoolExecutor) -> None:
    turnstile, pair = Turnstile(), [0, 0]

    def write_on() -> None:
        for number in range(500):
            with turnstile.writing():
                pair[0] = number
                pair[1] = number

    def read_on() -> bool:
        for _ in range(500):
            with turnstile.reading():
                if pair[0] != pair[1]:
                    return False
        return True

    readers = [threads.submit(read_on) for _ in range(3)]
    threads.submit(write_on).result(PATIENCE)
    assert all(reader.result(PATIENCE) for reader in readers)


def test_an_error_inside_lets_go(threads: ThreadPoolExecutor) -> None:
    turnstile = Turnstile()
    for side in (turnstile.reading, turnstile.writing):
        with pytest.raises(KeyError), side():
            raise KeyError
    assert threads.submit(write_once, turnstile).result(PATIENCE)
    assert threads.submit(read_once, turnstile).result(PATIENCE)


def read_once(turnstile: Turnstile) -> bool:
    with turnstile.reading():
        return True


def write_once(turnstile: Turnstile) -> bool:
    with turnstile.writing():
        return True


def late_done(future: Future[bool]) -> bool:
    """Whether it got through although it should have to wait."""
    try:
        future.result(MOMENT)
    except TimeoutError:
        return False
    return True
