"""Arrivals come when they are due, and what holds the event loop up is part of their time."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from bench.pacer import STAMP, arrivals, pace

pytestmark = pytest.mark.serial


def sent(rate: float, count: int, seed: int) -> list[int]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=pace, args=(theirs, rate, count, seed))
        sender.start()
        stamps = [STAMP.unpack(ours.recv(STAMP.size, socket.MSG_WAITALL))[0] for _ in range(count)]
        sender.join()
    return stamps


def test_stamps_ascend_at_about_the_rate() -> None:
    started = time.monotonic_ns()
    stamps = sent(rate=500, count=200, seed=3)
    assert stamps == sorted(stamps)
    assert stamps[0] >= started
    assert stamps[-1] - started > 0.25e9  # exponential gaps of 2 ms: 0.4 s, give or take 0.03


async def test_every_arrival_is_told_with_the_time_at_which_it_was_sent() -> None:
    stamps: list[int] = []
    assert await arrivals(400, 40, 1, stamps.append) == 40
    assert len(stamps) == 40
    assert all(stamp < time.monotonic_ns() for stamp in stamps)


async def test_a_loop_that_was_held_up_sees_it_in_the_arrivals_time() -> None:
    waited: list[float] = []

    def note(stamp: int) -> None:
        waited.append((time.monotonic_ns() - stamp) / 1e9)
        if len(waited) == 1:
            time.sleep(0.2)  # holds the loop up while the others arrive

    await arrivals(1000, 20, 1, note)
    assert max(waited[1:]) > 0.1
