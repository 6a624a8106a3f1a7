"""What the wires share in judging and cutting up an answer."""

from __future__ import annotations

import json
import re

import orjson

from proxy.wire.base import Fields, Json

# An integer that may be too long for 64 bits, or digits in a text that look like one.
_LONG_INTEGER = re.compile(rb"(?<![\d.])\d{19,}(?![\d.eE])")
_PIECE = re.compile(r".{1,80}(?:\s|\Z)|.{1,80}", re.DOTALL)


def pieces(text: str) -> list[str]:
    """Cut a text into parts of at most 81 characters, after a space where there is one."""
    return _PIECE.findall(text)


def is_error(answer: Fields) -> bool:
    """Whether an object is an error, in OpenAI's or Anthropic's envelope or as an event."""
    return answer.get("error") is not None or answer.get("type") == "error"


def is_writable(answer: Json) -> bool:
    """Whether an answer can be written as events: orjson reads deeper nesting than it writes."""
    try:
        orjson.dumps([[answer]])
    except TypeError:
        return False
    return True


def read_exactly(raw: bytes) -> Json:
    """Return what JSON says; raise ValueError, too, where that is an integer beyond 64 bits.

    orjson rounds such a one, and an answer that is turned round would say another number.
    """
    value = orjson.loads(raw)
    if _LONG_INTEGER.search(raw):
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
