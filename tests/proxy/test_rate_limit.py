"""Each key may do so much a minute, and no more whatever it tries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rate_limit import RateLimit


def test_a_burst_of_a_minutes_worth_is_let_through_and_then_no_more() -> None:
    limit = RateLimit(3)
    assert [limit.wait("a", 0.0) for _ in range(3)] == [0, 0, 0]
    assert limit.wait("a", 0.0) == pytest.approx(20)


def test_what_was_waited_for_is_let_through() -> None:
    limit = RateLimit(3)
    for _ in range(3):
        limit.wait("a", 0.0)
    pause = limit.wait("a", 5.0)
    assert limit.wait("a", 5.0 + pause) == 0.0


def test_keys_do_not_share() -> None:
    limit = RateLimit(1)
    assert limit.wait("a", 0.0) == 0.0
    assert limit.wait("b", 0.0) == 0.0
    assert limit.wait("a", 0.0) > 0


@given(st.lists(st.floats(0, 30), max_size=100))
def test_no_pattern_gets_more_than_twice_the_rate_within_a_minute(pauses: list[float]) -> None:
    limit, now, passed = RateLimit(10), 0.0, []
    for pause in pauses:
        now += pause
        if limit.wait("a", now) == 0.0:
            passed.append(now)
    for begin in passed:
        assert sum(begin <= at < begin + 60 for at in passed) <= 20


def test_the_number_of_keys_is_bounded() -> None:
    limit = RateLimit(1, max_keys=2)
    for key in "abc":
        limit.wait(key, 0.0)
    assert limit.wait("a", 0.0) == 0.0  # forgotten, so it begins anew
    assert limit.wait("c", 0.0) > 0
