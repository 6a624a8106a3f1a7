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
Fields = dict[str, Json]  # a JSON object
PLACEHOLDER = "\x00query\x00"  # stands for a user's text in a skeleton and in a context

# Top-level request fields that say how an answer travels or who asked, never what is asked.
TRANSPORT_FIELDS = frozenset(
    {"stream", "stream_options", "user", "metadata", "service_tier", "store"}
)

# Every reason that Wire.refuse gives; they are metric labels, so this set is closed.
REFUSALS = frozenset(
    {
        "error",  # an error object instead of an answer
        "length",  # cut off at a token limit
        "content_filter",  # cut off or withheld by the upstream's filter
        "tool_calls",  # asks for a tool, and the category does not store those
        "unfinished",  # no finish reason, or one that is not an ordinary end
        "empty",  # neither text nor tool call nor refusal
        "malformed",  # not the shape of this route's answers
    }
)


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
    # The earlier turns, in order, each user's text replaced by PLACEHOLDER; [] if it stands alone.
    context: Json
    turns: int  # user turns, this one included
    earlier: tuple[str, ...] = ()  # the texts that were replaced, in order
    # All that users said before `text`, in order: `earlier`, and what stays where it is.
    said: tuple[str, ...] = ()


class Wire(Protocol):
    """One cacheable route's format."""

    path: str  # as in "/v1/chat/completions"
    streams: bool  # whether the route can answer as SSE
    echoes: tuple[str, ...]  # the transport fields that its answers tell again

    def read(self, body: dict[str, Json]) -> Question:
        """Split a request body; raise InvalidRequest, nothing else, naming the field at fault."""
        ...

    def ask_for_usage(self, body: dict[str, Json]) -> dict[str, Json]:
        """Return the body that makes a streamed answer complete enough to serve as JSON too."""
        ...

    def trim(self, event: bytes, body: dict[str, Json]) -> bytes:
        """Return a raw event as the client that sent `body` would have seen it; b"" hides it."""
        ...

    def assemble(self, events: Iterable[bytes]) -> dict[str, Json] | None:
        """Build the JSON answer from a stream's raw events; None unless it ended cleanly."""
        ...

    def replay(self, answer: dict[str, Json], body: dict[str, Json]) -> Iterator[bytes]:
        """Yield an answer that refuse let pass as raw events, for the client that sent `body`."""
        ...

    def refuse(self, answer: dict[str, Json], *, store_tool_calls: bool) -> str | None:
        """Say, in a word of REFUSALS, why this JSON answer may never be stored; None if it may."""
        ...
