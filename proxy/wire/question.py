"""What the wires share in reading a request: validation, and splitting a conversation.

A conversation is cut into four: the leading instructions and the last user turn (around its
text) stay in the skeleton, the turns between are the context, and what users said in those is left
out of it as a list. From the four parts the request can be rebuilt, so two requests that agree in
all of them are one request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from proxy.wire.base import (
    PLACEHOLDER,
    TRANSPORT_FIELDS,
    InvalidRequest,
    Json,
    Question,
    Tier,
)

Turn = dict[str, Json]
INSTRUCTING_ROLES = ("system", "developer")
# Characters of an earlier user turn. A longer one must be the same to the letter: with every entry
# of its dialogue it would be kept in memory, and what encoders make of it tells little.
LONGEST_COMPARED = 4096
# Fields that put tokens of the question, or odds of this very text, into the answer.
TELLTALE_FIELDS = ("logprobs", "top_logprobs", "return_token_ids", "echo")


def check_head(body: dict[str, Json]) -> None:
    """Raise InvalidRequest unless `model` and `stream` are what every route needs."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _mistyped("model", model, "a non-empty string")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _mistyped("stream", stream, "a boolean")


def check_text_or_list(body: dict[str, Json], field: str) -> str | list[Json]:
    """Return a field that may be a string or a non-empty list; raise InvalidRequest."""
    value = body.get(field)
    if isinstance(value, str) or (isinstance(value, list) and value):
        return value
    raise _mistyped(field, value, "a string or a non-empty list")


def check_messages(body: dict[str, Json]) -> list[Turn]:
    """Return `messages`, a non-empty list of objects with a role; raise InvalidRequest."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _mistyped("messages", messages, "a non-empty list of messages")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _mistyped(f"messages[{i}]", message, "an object")
        if not isinstance(message.get("role"), str):
            raise _mistyped(f"messages[{i}].role", message.get("role"), "a string")
    return messages


def check_objects(values: Sequence[Json], field: str) -> None:
    """Raise InvalidRequest naming the first value of a list that is not an object."""
    for i, value in enumerate(values):
        if not isinstance(value, dict):
            raise _mistyped(f"{field}[{i}]", value, "an object")


def _mistyped(param: str, value: Json, wanted: str) -> InvalidRequest:
    if value is None:
        return InvalidRequest(f"{param} is required: {wanted}", param)
    shown = repr(value) if isinstance(value, bool | int | float) or value in ("", [], {}) else ""
    found = f"{type(value).__name__} {shown}".strip()
    return InvalidRequest(f"{param} must be {wanted}, not {found}", param)


def any_set(body: dict[str, Json], fields: Iterable[str]) -> bool:
    """Whether any of the fields is there with a value that is not null, false, 0 or empty."""
    return any(map(body.get, fields))


def is_alone(body: dict[str, Json]) -> bool:
    """Whether one answer is asked for, with nothing in it that betrays the exact question."""
    return (
        body.get("n") in (None, 1)
        and body.get("best_of") in (None, 1)
        and not any_set(body, TELLTALE_FIELDS)
        and not asks_for_logprobs(body, "prompt_logprobs")
    )


def asks_for_logprobs(body: dict[str, Json], field: str) -> bool:
    """Whether a field says how many logprobs each token is to have: 0 is its own alone."""
    return body.get(field) is not None and body[field] is not False


def has_foreign_tools(body: dict[str, Json], own: Iterable[str | None]) -> bool:
    """Whether a tool has a type other than the client's `own` ones, so that it runs elsewhere."""
    tools = body.get("tools")
    if not tools:
        return False
    if not isinstance(tools, list):
        return True
    return any(not isinstance(tool, dict) or tool.get("type") not in own for tool in tools)


def unasked(tier: Tier, turns: int) -> Question:
    """Return the question of a request that is not compared by meaning."""
    return Question(tier=tier, text="", skeleton={}, context=[], turns=turns)


def plain_question(body: dict[str, Json], field: str, text: str) -> Question:
    """Return the question of a request whose `field` is the text itself."""
    if not text or text.isspace():
        return unasked(Tier.EXACT, 1)
    skeleton = {k: v for k, v in body.items() if k not in TRANSPORT_FIELDS}
    skeleton[field] = PLACEHOLDER
    return Question(tier=Tier.SEMANTIC, text=text, skeleton=skeleton, context=[], turns=1)


def last_turn_question(
    body: dict[str, Json], field: str, turns: list[Turn], part_type: str, user_turns: int
) -> Question:
    """Return the question of a conversation: of its last turn if that is a user's text.

    `part_type` is how this wire calls a text part of a content list.
    """
    last = turns[-1]
    split = _split_turn(last, part_type)
    if split is None:
        return unasked(Tier.EXACT, user_turns)
    text, held = split
    lead = 0
    while turns[lead].get("role") in INSTRUCTING_ROLES:
        lead += 1
    skeleton = {k: v for k, v in body.items() if k not in TRANSPORT_FIELDS}
    skeleton[field] = [*turns[:lead], {**last, "content": held}]
    context, earlier = _split_past(turns[lead:-1], part_type)
    return Question(
        tier=Tier.SEMANTIC,
        text=text,
        skeleton=skeleton,
        context=context,
        turns=user_turns,
        earlier=earlier,
        said=tuple(_user_texts(turns))[:-1],
    )


def _split_past(turns: list[Turn], part_type: str) -> tuple[list[Turn], tuple[str, ...]]:
    """Return the turns with each user's text replaced, and those texts.

    A turn that is not plainly a user's text, or a long one, stays as it is.
    """
    context, earlier = [], []
    for turn in turns:
        split = _split_turn(turn, part_type)
        message = turn.get("type", "message") == "message"
        if split is not None and message and len(split[0]) <= LONGEST_COMPARED:
            earlier.append(split[0])
            turn = {**turn, "content": split[1]}
        context.append(turn)
    return context, tuple(earlier)


def _user_texts(turns: list[Turn]) -> Iterator[str]:
    for turn in turns:
        content = turn.get("content") if turn.get("role") == "user" else None
        for part in content if isinstance(content, list) else [{"text": content}]:
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str):
                yield text


def _split_turn(turn: Turn, part_type: str) -> tuple[str, Json] | None:
    return _split_content(turn.get("content"), part_type) if turn.get("role") == "user" else None


def _split_content(content: Json, part_type: str) -> tuple[str, Json] | None:
    if isinstance(content, str):
        return None if not content or content.isspace() else (content, PLACEHOLDER)
    if not isinstance(content, list) or not content:
        return None
    for part in content:
        if not isinstance(part, dict) or part.get("type") != part_type:
            return None
        if not isinstance(part.get("text"), str):
            return None
    text = content[-1]["text"]
    if not text or text.isspace():
        return None
    return text, [*content[:-1], {**content[-1], "text": PLACEHOLDER}]
