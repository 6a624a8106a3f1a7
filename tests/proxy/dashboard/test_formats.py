"""Numbers and times as pages write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proxy.dashboard import formats

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (0.0000123, "12 µs"), (0.0123, "12.3 ms"), (1.5, "1.5 s"), (600, "10 min"),
        (9000, "2.5 h"), (259_200, "3.0 days"), (None, "–"),
    ],
)  # fmt: skip
def test_a_span_is_in_the_unit_that_suits_it(span: float | None, text: str) -> None:
    assert formats.seconds(span).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("bytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**40, "5120.0 GiB")]
)
def test_bytes_are_in_the_unit_that_suits_them(bytes: int, text: str) -> None:
    assert formats.size(bytes).replace("\u202f", " ") == text


def test_other_numbers() -> None:
    assert formats.count(1234567).replace("\u202f", " ") == "1 234 567"
    assert formats.percent(0.123456).replace("\u202f", " ") == "12.3 %"
    assert (formats.money(0.00123), formats.money(1234.5)) == ("0.0012", "1\u202f234.50")
    assert (formats.cosine(0.98765), formats.cosine(None)) == ("0.988", "–")
    assert [formats.cosine(c) for c in (1.0, 0.99999, 0.9996)] == ["1.000", "0.9999", "0.9996"]


def test_times() -> None:
    assert formats.when("2026-01-02T03:04:05+00:00") == "2026-01-02 03:04:05"
    assert formats.ago(NOW, NOW + timedelta(seconds=90)).replace("\u202f", " ") == "90 s ago"
    assert formats.ago(NOW, NOW) == "just now"
