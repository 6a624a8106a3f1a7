"""/v1/messages, Anthropic's wire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.wire.answer import is_error, is_writable
from proxy.wire.base import Json, Question, Tier
from proxy.wire.message_events import assemble_message, replay_message
from proxy.wire.question import (
    Turn,
    any_set,
    check_head,
    check_messages,
    has_foreign_tools,
    is_alone,
    last_turn_question,
    unasked,
)

_OWN_TOOLS = (None, "custom")
_HOSTED_FIELDS = ("mcp_servers", "container")
_STORABLE_BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use")
_STOP_REFUSALS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


class MessagesWire:
    """Anthropic messages: the last user message is the query."""

    path = "/v1/messages"
    streams = True
    echoes: tuple[str, ...] = ()

    def read(self, body: dict[str, Json]) -> Question:
        """Split a request body; raise InvalidRequest naming the field at fault."""
        check_head(body)
        messages = check_messages(body)
        turns = sum(map(_is_user_turn, messages))
        if any_set(body, _HOSTED_FIELDS) or has_foreign_tools(body, _OWN_TOOLS):
            return unasked(Tier.NONE, turns)
        if not is_alone(body):
            return unasked(Tier.EXACT, turns)
        return last_turn_question(body, "messages", messages, "text", turns)

    def ask_for_usage(self, body: dict[str, Json]) -> dict[str, Json]:
        """Return the same body: every stream carries its usage."""
        return body

    def trim(self, event: bytes, body: dict[str, Json]) -> bytes:
        """Return the same event: nothing more is asked for than the client asked for."""
        return event

    def assemble(self, events: Iterable[bytes]) -> dict[str, Json] | None:
        """Return the message of a stream; None unless it ended cleanly."""
        return assemble_message(events)

    def replay(self, answer: dict[str, Json], body: dict[str, Json]) -> Iterator[bytes]:
        """Yield a stored message as the events that would have built it."""
        return replay_message(answer)

    def refuse(self, answer: dict[str, Json], *, store_tool_calls: bool) -> str | None:
        """Say why this answer may never be stored; None if it may."""
        if not isinstance(answer, dict):
            return "malformed"
        if is_error(answer):
            return "error"
        blocks = answer.get("content")
        if not isinstance(blocks, list) or not all(map(_is_block, blocks)):
            return "malformed"
        stop = answer.get("stop_reason")
        if (reason := _refuse_stop(stop, blocks, store_tool_calls=store_tool_calls)) is not None:
            return reason
        if not isinstance(answer.get("usage"), dict | None) or not is_writable(answer):
            return "malformed"
        return None if any(map(_says, blocks)) else "empty"


def _is_user_turn(message: Turn) -> bool:
    """Whether a user speaks here; a message that only returns tool results is no turn."""
    if message["role"] != "user":
        return False
    parts = message.get("content")
    if not isinstance(parts, list) or not parts:
        return True
    return any(not isinstance(p, dict) or p.get("type") != "tool_result" for p in parts)


# -- what may be stored


def _is_block(block: Json) -> bool:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str):
        return False
    return kind not in ("text", "thinking") or isinstance(block.get(kind), str)


def _refuse_stop(stop: Json, blocks: list[Json], *, store_tool_calls: bool) -> str | None:
    if stop not in ("end_turn", "stop_sequence", "tool_use"):
        return _STOP_REFUSALS.get(stop, "unfinished") if isinstance(stop, str) else "unfinished"
    kinds = {block["type"] for block in blocks}
    if not kinds.issubset(_STORABLE_BLOCKS):
        return "tool_calls"  # the upstream ran a tool of its own
    calls_tools = stop == "tool_use" or "tool_use" in kinds
    return "tool_calls" if calls_tools and not store_tool_calls else None


def _says(block: Json) -> bool:
    return block["type"] == "tool_use" or (block["type"] == "text" and bool(block["text"].strip()))
