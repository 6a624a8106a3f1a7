"""Integers beyond 64 bits, which must not be rounded."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.numbers import has_digits, read_exactly


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"to": 18446744073709551615, "by": -9223372036854775808}', id="64 bits"),
        pytest.param(b'{"to": "123456789012345678901234"}', id="digits of a text"),
        pytest.param(b"[0.12345678901234567890, 1234567890123456789012.5, 1e22]", id="doubles"),
    ],
)
def test_what_is_kept_as_it_is_is_read(raw: bytes) -> None:
    assert read_exactly(raw) == json.loads(raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"to": 123456789012345678901234}', id="an integer beyond 64 bits"),
        pytest.param(b'{"to":[-9223372036854775809]}', id="one below zero"),
        pytest.param(b"9" * 5000, id="one too long to be read at all"),
        pytest.param(b"[" * 1020 + b"1" * 30 + b"]" * 1020, id="one too deep"),
        pytest.param(b'{"to": ', id="no JSON"),
    ],
)
def test_what_would_be_rounded_is_not_read(raw: bytes) -> None:
    with pytest.raises(ValueError):
        read_exactly(raw)


@given(st.from_regex(rb"[0-9xX .\xb2\xff]{0,30}", fullmatch=True), st.integers(1, 20))
def test_digits_in_a_row_are_found_as_a_pattern_would(raw: bytes, count: int) -> None:
    assert has_digits(raw, count) is bool(re.search(rb"\d{%d}" % count, raw))
