"""What the wires share in judging and cutting up an answer."""

from __future__ import annotations

import re

import orjson

from proxy.wire.base import Fields, Json

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
