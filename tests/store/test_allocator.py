"""Memory that was freed goes back to the system, where the C library has a way to."""

from __future__ import annotations

import ctypes

import numpy as np
import psutil
import pytest

from store.allocator import give_back

BLOCK, BLOCKS = 20_000, 5_000  # bytes; 100 MB in pieces that no mapping of their own holds


def test_holes_in_the_heap_are_given_back() -> None:
    process = psutil.Process()
    held = [np.ones(BLOCK, np.uint8) for _ in range(BLOCKS)]
    few = held[::100]  # so that the heap cannot shrink from its end
    del held
    before = process.memory_info().rss
    give_back()
    assert before - process.memory_info().rss > BLOCK * BLOCKS / 2
    assert len(few) == BLOCKS // 100


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    give_back()
