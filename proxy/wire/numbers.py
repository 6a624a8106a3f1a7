"""Numbers that JSON can write and 64 bits cannot hold."""

from __future__ import annotations

import json

import orjson

from proxy.wire.base import Json

_SHORTEST = 19  # digits of an integer that may be beyond 64 bits
# Digits to 0, all else to x: a search for zeros then takes a tenth of what a pattern takes.
_DIGITS = bytes(ord("0") if byte in b"0123456789" else ord("x") for byte in range(256))


def has_digits(raw: bytes, count: int) -> bool:
    """Whether there are so many decimal digits in a row."""
    return b"0" * count in raw.translate(_DIGITS)


def read_exactly(raw: bytes) -> Json:
    """Return what JSON says; raise ValueError, too, where that is an integer beyond 64 bits.

    orjson rounds such a one, and an answer that is turned round would say another number.
    """
    value = orjson.loads(raw)
    if has_digits(raw, _SHORTEST):
        try:
            json.loads(raw, parse_int=_exact_int)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
    return value


def _exact_int(digits: str) -> int:
    number = int(digits)
    if not -(2**63) <= number < 2**64:
        raise ValueError("an integer beyond 64 bits")
    return number
