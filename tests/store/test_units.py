"""Durations and sizes are read as people write them, and a bad one says what is allowed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.units import duration_text, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"), [("15m", 900), ("7d", 604800), ("250ms", 0.25), (90, 90), ("1.5h", 5400)]
)
def test_durations_are_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "-5s", "5 parsecs", None, True, -1, [], "1e400d", 1e300])
def test_a_bad_duration_says_what_is_allowed(text: object) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), [("256MiB", 2**28), (10, 10), ("1 kB".upper(), 1000)])
def test_sizes_are_read(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["-1", -1, "many", None, "5MiBs", 2**63, "8796093022208MiB", "9" * 5000, "9" * 400 + "GB"],
)
def test_a_bad_size_says_what_is_allowed(text: object) -> None:
    with pytest.raises(ValueError, match="a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (90, "90s"),
        (900, "15m"),
        (86400, "1d"),
        (0.25, "250ms"),
        (0.00005, "0.00005s"),
        (1.2345, "1.2345s"),
    ],
)
def test_a_duration_is_written_in_its_largest_whole_unit(seconds: float, text: str) -> None:
    assert duration_text(timedelta(seconds=seconds)) == text


@given(st.integers(0, 10**15 - 1) | st.integers(0, 10**4) | st.just(10**15 - 1))
def test_a_written_duration_reads_back_the_same(microseconds: int) -> None:
    duration = timedelta(microseconds=microseconds)
    assert parse_duration(duration_text(duration)) == duration


@pytest.mark.parametrize("value", [999_999_999.999_999_9, "999999999.9999999s"])
def test_what_rounds_to_a_duration_that_is_too_long_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        parse_duration(value)
