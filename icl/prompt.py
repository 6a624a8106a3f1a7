"""The request that a small model gets: the client's own, with examples as earlier turns.

Examples are turns and not a block of text: in the system message or in one user message they fail
with small models, and the engine's own turn markers keep them apart from instructions. Each bears
MARK as its `name`, the schema's field for telling messages of one role apart, so that they are
marked as data without a word of prompt. Everything else of the body goes as the client wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from icl.example import Example

MARK = "nearhit_example"  # `name` of every message that is an example's
REFUSALS = frozenset(
    {"tools", "choices", "logprobs", "logit_bias", "audio", "search", "prediction", "stored"}
    | {"messages", "role", "content", "name"}
)

# What only the requested model or its API can do. logit_bias names tokens of its vocabulary.
_FOREIGN = {
    "tools": "tools",
    "tool_choice": "tools",
    "parallel_tool_calls": "tools",
    "functions": "tools",
    "function_call": "tools",
    "logprobs": "logprobs",
    "top_logprobs": "logprobs",
    "logit_bias": "logit_bias",
    "audio": "audio",
    "web_search_options": "search",
    "search_parameters": "search",
    "data_sources": "search",
    "plugins": "search",
    "prediction": "prediction",
    "store": "stored",  # the client means to fetch it from the requested API later
}
_LEADING = ("system", "developer")
_ROLES = (*_LEADING, "user", "assistant")
_CALLS = ("tool_calls", "function_call", "tool_call_id", "audio")


def refusal(body: Mapping[str, Any]) -> str | None:
    """Say why this chat may not be given to a small model, one of REFUSALS; None if it may.

    Only plain text chats that end in a question may. JSON mode may: engines enforce it.
    """
    for field, reason in _FOREIGN.items():
        if body.get(field):
            return reason
    if body.get("n") not in (None, 1):
        return "choices"
    if body.get("modalities") not in (None, ["text"]):
        return "audio"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages"
    for message in messages:
        if (found := _refuse_message(message)) is not None:
            return found
    return None if messages[-1]["role"] == "user" else "messages"


def _refuse_message(message: object) -> str | None:
    if not isinstance(message, Mapping):
        return "messages"
    if message.get("role") not in _ROLES:
        return "role"
    if any(message.get(field) for field in _CALLS):
        return "tools"
    if message.get("name") == MARK:
        return "name"  # it could not be told from ours
    return None if _is_text(message.get("content")) else "content"


def _is_text(content: object) -> bool:
    if isinstance(content, str):
        return True
    return isinstance(content, list) and all(
        isinstance(part, Mapping)
        and part.get("type") == "text"
        and isinstance(part.get("text"), str)
        for part in content
    )


def with_examples(
    body: Mapping[str, Any], examples: Sequence[Example], small: str
) -> dict[str, Any]:
    """Return the body for the model `small`, with the examples as turns in the order given.

    They come after the client's leading system and developer messages and before its first other
    turn. The body, for which `refusal` found nothing, is not changed. Without examples only the
    model differs.
    """
    messages = body["messages"]
    leading = 0
    while leading < len(messages) and messages[leading]["role"] in _LEADING:
        leading += 1
    turns = [message for example in examples for message in _turn(example)]
    return {**body, "model": small, "messages": [*messages[:leading], *turns, *messages[leading:]]}


def _turn(example: Example) -> tuple[dict[str, str], dict[str, str]]:
    return (
        {"role": "user", "name": MARK, "content": example.question},
        {"role": "assistant", "name": MARK, "content": example.answer},
    )
