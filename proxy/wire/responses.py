"""/v1/responses. Its last event carries the whole JSON answer, so that is what is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.wire.answer import is_error, is_writable, pieces
from proxy.wire.base import Fields, Json, Question, Tier
from proxy.wire.question import (
    check_head,
    check_objects,
    check_text_or_list,
    has_foreign_tools,
    is_alone,
    last_turn_question,
    plain_question,
    unasked,
)
from proxy.wire.sse import BrokenStream, encode, payloads

_OWN_TOOLS = ("function", "custom")
_STORED_FIELDS = ("previous_response_id", "conversation", "prompt")  # name what is kept upstream
_OWN_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_CALL_EVENTS = {
    "function_call": "response.function_call_arguments",
    "custom_tool_call": "response.custom_tool_call_input",
}
_PART_TEXTS = {
    "output_text": "text",
    "refusal": "refusal",
    "reasoning_text": "text",
    "summary_text": "text",
}
_CUT_OFF = {"max_output_tokens": "length", "content_filter": "content_filter"}


class ResponsesWire:
    """Responses: the text input, or the last user message of the input items, is the query."""

    path = "/v1/responses"
    streams = True
    echoes: tuple[str, ...] = ("metadata", "user", "store")

    def read(self, body: dict[str, Json]) -> Question:
        """Split a request body; raise InvalidRequest naming the field at fault."""
        check_head(body)
        tier = _tier(body)
        if tier is Tier.NONE and body.get("input") is None:
            return unasked(tier, 1)
        asked = check_text_or_list(body, "input")
        if isinstance(asked, str):
            return (
                plain_question(body, "input", asked) if tier is Tier.SEMANTIC else unasked(tier, 1)
            )
        check_objects(asked, "input")
        turns = [item.get("role") for item in asked].count("user")
        if any(map(_is_reference, asked)):
            tier = Tier.NONE
        if tier is not Tier.SEMANTIC:
            return unasked(tier, turns)
        if asked[-1].get("type", "message") != "message":
            return unasked(Tier.EXACT, turns)
        return last_turn_question(body, "input", asked, "input_text", turns)

    def ask_for_usage(self, body: dict[str, Json]) -> dict[str, Json]:
        """Return the same body: every stream carries its usage."""
        return body

    def trim(self, event: bytes, body: dict[str, Json]) -> bytes:
        """Return the same event: nothing more is asked for than the client asked for."""
        return event

    def assemble(self, events: Iterable[bytes]) -> dict[str, Json] | None:
        """Return the response of the stream's response.completed; None unless it ended so."""
        completed: Json = None
        try:
            for event in payloads(events):
                if event is None:
                    continue
                if completed is not None:
                    return None
                if event.get("type") == "response.completed":
                    completed = event.get("response")
        except BrokenStream:
            return None
        if not isinstance(completed, dict) or completed.get("status") != "completed":
            return None
        return completed

    def replay(self, answer: dict[str, Json], body: dict[str, Json]) -> Iterator[bytes]:
        """Yield a stored response as the events that would have built it."""
        for number, event in enumerate(_events(answer)):
            yield encode({**event, "sequence_number": number}, event["type"])

    def refuse(self, answer: dict[str, Json], *, store_tool_calls: bool) -> str | None:
        """Say why this answer may never be stored; None if it may."""
        if not isinstance(answer, dict):
            return "malformed"
        if (reason := _refuse_status(answer)) is not None:
            return reason
        if not is_writable(answer):
            return "malformed"
        return _refuse_output(answer.get("output"), store_tool_calls=store_tool_calls)


def _is_reference(item: Fields) -> bool:
    """Whether an item is kept upstream and named by its id; such an item need not say its type."""
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and "content" not in item)


def _tier(body: dict[str, Json]) -> Tier:
    if any(body.get(field) is not None for field in _STORED_FIELDS) or body.get("background"):
        return Tier.NONE
    if has_foreign_tools(body, _OWN_TOOLS):
        return Tier.NONE
    include = body.get("include")
    scored = isinstance(include, list) and any(
        isinstance(field, str) and "logprobs" in field for field in include
    )
    return Tier.SEMANTIC if is_alone(body) and not scored else Tier.EXACT


# -- JSON to stream


def _events(answer: Fields) -> Iterator[Fields]:
    begun: Fields = {**answer, "status": "in_progress", "output": []}
    begun.update((k, None) for k in ("usage", "completed_at") if k in answer)
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(answer["output"]):
        yield from _item_events(item, index)
    yield {"type": "response.completed", "response": answer}


def _item_events(item: Fields, index: int) -> Iterator[Fields]:
    at: Fields = {"item_id": item.get("id") or "", "output_index": index}
    begun: Fields = {**item, "status": "in_progress"} if "status" in item else {**item}
    inner: Iterator[Fields] = iter(())
    kind = item.get("type")
    if kind in _OWN_CALLS:
        begun[_OWN_CALLS[kind]] = ""
        inner = _call_events(item, at)
    elif kind in ("message", "reasoning"):
        begun.update((k, []) for k in ("summary", "content") if isinstance(item.get(k), list))
        inner = _part_events(item, at)
    yield {"type": "response.output_item.added", "output_index": index, "item": begun}
    yield from inner
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _call_events(item: Fields, at: Fields) -> Iterator[Fields]:
    kind, field = _CALL_EVENTS[item["type"]], _OWN_CALLS[item["type"]]
    for piece in pieces(item[field]):
        yield {"type": f"{kind}.delta", **at, "delta": piece}
    named = {"name": item["name"]} if field == "arguments" and "name" in item else {}
    yield {"type": f"{kind}.done", **at, **named, field: item[field]}


def _part_events(item: Fields, at: Fields) -> Iterator[Fields]:
    for i, part in enumerate(item.get("summary") or []):
        kind, here = "response.reasoning_summary", {**at, "summary_index": i}
        yield {"type": f"{kind}_part.added", **here, "part": {**part, "text": ""}}
        for piece in pieces(part["text"]):
            yield {"type": f"{kind}_text.delta", **here, "delta": piece}
        yield {"type": f"{kind}_text.done", **here, "text": part["text"]}
        yield {"type": f"{kind}_part.done", **here, "part": part}
    for i, part in enumerate(item.get("content") or []):
        here = {**at, "content_index": i}
        yield {"type": "response.content_part.added", **here, "part": _begun_part(part)}
        if part.get("type") in _PART_TEXTS:
            yield from _text_events(part, here)
        yield {"type": "response.content_part.done", **here, "part": part}


def _begun_part(part: Fields) -> Fields:
    begun = {**part, _PART_TEXTS[part["type"]]: ""} if part.get("type") in _PART_TEXTS else part
    empty: Fields = {k: [] for k in ("annotations", "logprobs") if isinstance(part.get(k), list)}
    return {**begun, **empty}


def _text_events(part: Fields, here: Fields) -> Iterator[Fields]:
    kind, field = part["type"], _PART_TEXTS[part["type"]]
    scored = kind == "output_text"
    unscored: Fields = {"logprobs": []} if scored else {}
    for piece in pieces(part[field]):
        yield {"type": f"response.{kind}.delta", **here, "delta": piece, **unscored}
    notes = part.get("annotations")
    for i, note in enumerate(notes if isinstance(notes, list) else []):
        added = {"type": "response.output_text.annotation.added", "annotation_index": i}
        yield {**added, **here, "annotation": note}
    logprobs = {"logprobs": part.get("logprobs") or []} if scored else {}
    yield {"type": f"response.{kind}.done", **here, field: part[field], **logprobs}


# -- what may be stored


def _refuse_status(answer: Fields) -> str | None:
    if is_error(answer) or answer.get("status") in ("failed", "cancelled"):
        return "error"
    if (details := answer.get("incomplete_details")) is not None:
        reason = details.get("reason") if isinstance(details, dict) else None
        return _CUT_OFF.get(reason, "unfinished") if isinstance(reason, str) else "unfinished"
    return None if answer.get("status") == "completed" else "unfinished"


def _refuse_output(output: Json, *, store_tool_calls: bool) -> str | None:
    if not isinstance(output, list) or not all(map(_is_item, output)):
        return "malformed"
    for item in output:
        if item.get("status") not in ("completed", None):
            return "unfinished"
        own = item["type"] in _OWN_CALLS and store_tool_calls
        if not own and item["type"] not in ("message", "reasoning"):
            return "tool_calls"  # an action that somebody has to take, or has taken
    return None if any(map(_says, output)) else "empty"


def _is_item(item: Json) -> bool:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind in ("message", "reasoning"):
        needed = ("content",) if kind == "message" else ()
        summary = item.get("summary") or []  # of texts alone: a replay has no events for others
        return all(_is_parts(item.get(k), k in needed) for k in ("content", "summary")) and all(
            isinstance(part.get("text"), str) for part in summary
        )
    if not isinstance(kind, str):
        return False
    return kind not in _OWN_CALLS or isinstance(item.get(_OWN_CALLS[kind]), str)


def _is_parts(parts: Json, needed: bool) -> bool:
    if parts is None:
        return not needed
    return isinstance(parts, list) and all(map(_is_part, parts))


def _is_part(part: Json) -> bool:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        return False
    return kind not in _PART_TEXTS or isinstance(part.get(_PART_TEXTS[kind]), str)


def _says(item: Fields) -> bool:
    if item["type"] != "message":
        return item["type"] in _OWN_CALLS
    texts = [
        part[_PART_TEXTS[part["type"]]] for part in item["content"] if part["type"] in _PART_TEXTS
    ]
    return any(text.strip() for text in texts)
