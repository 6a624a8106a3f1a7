from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.retry import LONGEST_WAIT, backoff, pause_after

NOW = datetime(2026, 1, 2, 3, 4, 0, tzinfo=UTC)


def pause(status: int, retry_after: bytes | None = None, attempt: int = 0) -> float | None:
    return pause_after(status, retry_after, attempt, jitter=0.0, now=NOW)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 408, 413, 500, 501, 505, 529])
def test_passed_on_whatever_it_says(status: int) -> None:
    assert pause(status) is None
    assert pause(status, b"1") is None


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_overloaded_upstream_is_tried_again(status: int) -> None:
    assert pause(status) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        pytest.param(None, None, id="none: passed on"),
        pytest.param(b"3", 3.0, id="seconds"),
        pytest.param(b" 0.5 ", 0.5, id="a fraction"),
        pytest.param(b"0", 0.0, id="at once"),
        pytest.param(b"10", 10.0, id="the longest"),
        pytest.param(b"11", None, id="too long: passed on"),
        pytest.param(b"9" * 400, None, id="absurd: passed on"),
        pytest.param(b"Fri, 02 Jan 2026 03:04:05 GMT", 5.0, id="a date"),
        pytest.param(b"Fri, 02 Jan 2026 03:05:00 GMT", None, id="a date too far away"),
        pytest.param(b"Fri, 02 Jan 2026 03:03:00 GMT", 0.0, id="a date gone by"),
        pytest.param(b"Fri, 02 Jan 2026 03:04:05", 5.0, id="a date without a zone"),
        pytest.param(b"soon", None, id="a word"),
        pytest.param(b"-1", None, id="negative"),
        pytest.param(b"1.2.3", None, id="no number"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"\xff", None, id="not text"),
        pytest.param(b"Fri, 02 Jan 2026 03:04:05 +99999999999999", None, id="an absurd zone"),
    ],
)
def test_a_429_is_tried_again_when_it_says_when(
    retry_after: bytes | None, seconds: float | None
) -> None:
    assert pause(429, retry_after) == seconds


def test_a_503_may_ask_for_more_time_than_we_would_give_it() -> None:
    assert pause(503, b"3") == 3.0
    assert pause(503, b"0") == pytest.approx(0.05)
    assert pause(503, b"60") is None


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_the_pause_grows_with_a_spread_and_stays_short(attempt: int, jitter: float) -> None:
    assert 0.05 <= backoff(attempt, jitter) <= 2.0
    assert backoff(attempt, jitter) <= backoff(attempt + 1, jitter)
    assert backoff(attempt, 0.0) <= backoff(attempt, jitter)


@given(st.integers(100, 599), st.none() | st.binary(max_size=40), st.integers(0, 10))
def test_no_upstream_makes_us_wait_longer_than_the_longest(
    status: int, retry_after: bytes | None, attempt: int
) -> None:
    waited = pause_after(status, retry_after, attempt, jitter=0.5, now=NOW)
    assert waited is None or 0 <= waited <= LONGEST_WAIT
