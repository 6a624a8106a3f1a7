"""What the pipeline asks of a wire format: read a request, and turn answers between JSON and SSE.

A wire knows nothing of tenants, caches or sockets. Request and answer bodies are the plain
values that orjson gives; nothing here validates what only the upstream can judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

Json = Any  # what orjson.loads returns
PLACEHOLDER = "\x00query\x00"  # stands for the query text in a skeleton


class InvalidRequest(Exception):
    """The body is not what this route takes; becomes a 400 with `param`."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Tier(StrEnum):
    """How far a request may be answered from the cache, whatever its category says."""

    SEMANTIC = "semantic"  # by exact key or by meaning
    EXACT = "exact"  # by exact key only: its content never matches by meaning
    NONE = "none"  # neither looked up nor stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What identity needs of a request body, split by how it has to match."""

    tier: Tier
    text: str  # the last user text; "" unless tier is SEMANTIC
    skeleton: Json  # the body with `text` replaced by PLACEHOLDER and the earlier turns left out
    context: Json  # the earlier turns, in order; [] for a stand-alone question
    turns: int  # user turns, this one included


class Wire(Protocol):
    """One cacheable route's format."""

    path: str  # as in "/v1/chat/completions"
    streams: bool  # whether the route can answer as SSE

    def read(self, body: dict[str, Json]) -> Question:
        """Split a request body; raise InvalidRequest naming the field that is missing or mistyped."""
        ...

    def ask_for_usage(self, body: dict[str, Json]) -> dict[str, Json]:
        """Return the body that makes a streamed answer complete enough to serve as JSON too."""
        ...

    def trim(self, event: bytes, body: dict[str, Json]) -> bytes:
        """Return a raw SSE event as the client that sent `body` would have seen it; b"" hides it."""
        ...

    def assemble(self, events: Iterable[bytes]) -> dict[str, Json] | None:
        """Build the JSON answer from a stream's raw events; None unless the stream ended cleanly."""
        ...

    def replay(self, answer: dict[str, Json], body: dict[str, Json]) -> Iterator[bytes]:
        """Yield a stored JSON answer as raw SSE events, for the client that sent `body`."""
        ...

    def refuse(self, answer: dict[str, Json], *, store_tool_calls: bool) -> str | None:
        """Say why this JSON answer may never be stored ("length", "empty", ...); None if it may."""
        ...
