"""What an answer says, whichever wire it is on, and what it used. Pure.

Only an answer that is one text and nothing else has a text here: an answer that calls tools, has
several choices or refuses cannot be compared by what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from proxy.wire.base import Fields, Json


class Tokens(NamedTuple):
    """What a call used."""

    input: int
    output: int


def answer_text(path: str, answer: Fields) -> str | None:
    """Return the text of a JSON answer on this route; None if it is not one text."""
    reader = _READERS.get(path)
    if reader is None:
        return None
    try:
        text = reader(answer)
    except (KeyError, TypeError, AttributeError, ValueError):  # not the shape of this route
        return None
    return text if isinstance(text, str) and text.strip() else None


def tokens_told(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return input and output tokens of a `usage` on any wire; None for what it does not tell."""
    went_in, came_out = (
        next((n for name in names if isinstance(n := usage.get(name), int) and n >= 0), None)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    )
    return went_in, came_out


def tokens_used(answer: Fields) -> Tokens | None:
    """Return what an answer says that it used, on any wire; None if it does not say."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    went_in, came_out = tokens_told(usage)
    if came_out is None and usage.get("total_tokens") == went_in:
        came_out = 0  # of embeddings nothing comes out that is counted
    return None if went_in is None or came_out is None else Tokens(went_in, came_out)


def _chat(answer: Fields) -> Json:
    (choice,) = answer["choices"]
    message = choice["message"]
    if message.get("tool_calls") or message.get("function_call") or message.get("refusal"):
        return None
    return message["content"]


def _completion(answer: Fields) -> Json:
    (choice,) = answer["choices"]
    return choice["text"]


def _message(answer: Fields) -> Json:
    return _joined(answer["content"], "text")


def _response(answer: Fields) -> Json:
    said = [item for item in answer["output"] if item["type"] != "reasoning"]
    (item,) = said
    return _joined(item["content"], "output_text") if item["type"] == "message" else None


def _joined(parts: list[Fields], kind: str) -> str | None:
    spoken = [part for part in parts if part["type"] not in ("thinking", "redacted_thinking")]
    if any(part["type"] != kind for part in spoken):
        return None
    return "".join(part["text"] for part in spoken)


_READERS: dict[str, Callable[[Fields], Json]] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/messages": _message,
    "/v1/responses": _response,
}
TEXT_ROUTES = frozenset(_READERS)
