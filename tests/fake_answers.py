"""What the fake upstream says: JSON bodies and SSE events of each wire, made from the request."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = Any

ANTHROPIC_STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How the fake treats one call. The default is a plain 200 that echoes the question."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)  # added to the answer's own
    delay: float = 0.0  # seconds before the first byte
    token_delay: float = 0.0  # seconds before each event of a stream
    fragment: int = 0  # bytes a write of a stream; 0: one event a write
    text: str | None = None  # instead of the echo; "" is an empty answer
    refusal: str | None = None  # instead of text
    tool_calls: tuple[tuple[str, Json], ...] = ()  # (function name, arguments), instead of text
    finish_reason: str = "stop"  # in the chat wire's words; other wires translate
    body: bytes | None = None  # this exact body, whatever was asked (garbage, HTML, half an event)
    content_type: str | None = None
    drop: bool = False  # close the connection without a byte of answer
    cut_after: int | None = None  # close it after so many events (stream) or bytes (JSON)
    end_after: int | None = None  # end a stream after so many events as if that were all
    error_after: int | None = None  # an error event inside the 200 after so many events
    endless: bool = False  # repeat the text's events until the client goes away
    hold_after: int | None = None  # after so many events wait for FakeUpstream.release
    logprob: float | None = -0.5  # of every token of a chat that asks for them; None: it tells none


@dataclass(frozen=True, slots=True)
class Say:
    """One answer to be put on a wire."""

    id: str
    serial: int
    model: str
    asked: str
    script: Script
    body: dict[str, Json]

    @property
    def text(self) -> str:
        if self.script.text is not None:
            return self.script.text
        return f"Answer {self.serial} to: {self.asked}"

    @property
    def tokens(self) -> list[str]:
        words = self.text.split(" ")
        return [word + " " for word in words[:-1]] + words[-1:] if self.text else []

    @property
    def spent(self) -> tuple[int, int]:
        """(tokens in, tokens out), one a word."""
        return len(self.asked.split()), max(1, len(self.tokens))

    @property
    def created(self) -> int:
        return 1_700_000_000 + self.serial

    def calls(self) -> list[tuple[str, str, str]]:
        """(call id, function, arguments as JSON text) of each tool call."""
        named = enumerate(self.script.tool_calls)
        return [(f"call_{self.serial}_{i}", name, json.dumps(args)) for i, (name, args) in named]


def last_user_text(body: Json) -> str:
    """The question of a chat, completions, responses or messages body; "" if there is none."""
    if not isinstance(body, dict):
        return ""
    asked = body.get("messages", body.get("input", body.get("prompt", "")))
    if isinstance(asked, list):
        users = [m for m in asked if isinstance(m, dict) and m.get("role", "user") == "user"]
        asked = users[-1].get("content", "") if users else str(asked[-1:])
    if isinstance(asked, list):
        asked = " ".join(str(part.get("text", "")) for part in asked if isinstance(part, dict))
    return str(asked)


def sse(data: Json, event: str | None = None) -> bytes:
    """One SSE event as OpenAI (data only) or as Responses and Anthropic (named) write it."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


# -- chat completions


def _chat_usage(say: Say) -> Json:
    went_in, out = say.spent
    return {"prompt_tokens": went_in, "completion_tokens": out, "total_tokens": went_in + out}


def _chat_message(say: Say) -> Json:
    message: Json = {"role": "assistant", "content": say.text, "refusal": None}
    if say.script.refusal is not None:
        message |= {"content": None, "refusal": say.script.refusal}
    if say.script.tool_calls:
        message["content"] = None
        message["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": args}}
            for id_, name, args in say.calls()
        ]
    return message


def _chat_logprobs(say: Say, tokens: list[str]) -> Json:
    if not say.body.get("logprobs") or say.script.logprob is None:
        return None
    content: Json = [
        {"token": t, "logprob": say.script.logprob, "bytes": None, "top_logprobs": []}
        for t in tokens
    ]
    return {"content": content, "refusal": None}


def chat_json(say: Say) -> Json:
    choices = [
        {
            "index": index,
            "message": _chat_message(say),
            "logprobs": _chat_logprobs(say, say.tokens),
            "finish_reason": say.script.finish_reason,
        }
        for index in range(say.body.get("n") or 1)
    ]
    return {
        "id": f"chatcmpl-{say.id}",
        "object": "chat.completion",
        "created": say.created,
        "model": say.model,
        "choices": choices,
        "usage": _chat_usage(say),
        "system_fingerprint": "fp_fake",
    }


def _chat_deltas(say: Say) -> Iterator[tuple[Json, Json]]:
    """Yield (delta, logprobs) from the first to the last before the finish."""
    yield {"role": "assistant", "content": "", "refusal": None}, None
    if say.script.tool_calls:
        for index, (id_, name, args) in enumerate(say.calls()):
            head = {"index": index, "id": id_, "type": "function"}
            yield {"tool_calls": [head | {"function": {"name": name, "arguments": ""}}]}, None
            for part in (args[: len(args) // 2], args[len(args) // 2 :]):
                yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}, None
    elif say.script.refusal is not None:
        for word in say.script.refusal.split(" "):
            yield {"refusal": word + " "}, None
    else:
        for token in say.tokens:
            yield {"content": token}, _chat_logprobs(say, [token])


def chat_events(say: Say) -> Iterator[bytes]:
    wants_usage = bool((say.body.get("stream_options") or {}).get("include_usage"))
    head: Json = {
        "id": f"chatcmpl-{say.id}",
        "object": "chat.completion.chunk",
        "created": say.created,
        "model": say.model,
        "system_fingerprint": "fp_fake",
    }
    if wants_usage:
        head["usage"] = None
    indexes = range(say.body.get("n") or 1)
    for delta, logprobs in _chat_deltas(say):
        for index in indexes:
            choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
            yield sse(head | {"choices": [choice]})
    for index in indexes:
        end = {"index": index, "delta": {}, "logprobs": None}
        yield sse(head | {"choices": [end | {"finish_reason": say.script.finish_reason}]})
    if wants_usage:
        yield sse(head | {"choices": [], "usage": _chat_usage(say)})
    yield DONE


# -- completions


def completions_json(say: Say) -> Json:
    finish = say.script.finish_reason
    return {
        "id": f"cmpl-{say.id}",
        "object": "text_completion",
        "created": say.created,
        "model": say.model,
        "choices": [{"index": 0, "text": say.text, "logprobs": None, "finish_reason": finish}],
        "usage": _chat_usage(say),
        "system_fingerprint": "fp_fake",
    }


def completions_events(say: Say) -> Iterator[bytes]:
    wants_usage = bool((say.body.get("stream_options") or {}).get("include_usage"))
    whole = completions_json(say)
    usage = whole.pop("usage")
    if wants_usage:
        whole["usage"] = None
    ends: list[str | None] = [None] * len(say.tokens) + [say.script.finish_reason]
    for token, finish in zip([*say.tokens, ""], ends, strict=True):
        choice = {"index": 0, "text": token, "logprobs": None, "finish_reason": finish}
        yield sse(whole | {"choices": [choice]})
    if wants_usage:
        yield sse(whole | {"choices": [], "usage": usage})
    yield DONE


# -- responses


def _response(say: Say, status: str, output: list[Json]) -> Json:
    went_in, out = say.spent
    usage = {
        "input_tokens": went_in,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": out,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": went_in + out,
    }
    return {
        "id": f"resp_{say.id}",
        "object": "response",
        "created_at": say.created,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": say.body.get("instructions"),
        "max_output_tokens": say.body.get("max_output_tokens"),
        "model": say.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": say.body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "store": say.body.get("store", True),
        "temperature": say.body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": say.body.get("tools", []),
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if status in ("completed", "incomplete") else None,
        "user": say.body.get("user"),
        "safety_identifier": say.body.get("safety_identifier") or say.body.get("user"),
        "metadata": say.body.get("metadata") or {},
    }


def _response_output(say: Say) -> list[Json]:
    if say.script.tool_calls:
        return [
            {
                "id": f"fc_{id_}",
                "type": "function_call",
                "status": "completed",
                "call_id": id_,
                "name": name,
                "arguments": arguments,
            }
            for id_, name, arguments in say.calls()
        ]
    part: Json = {"type": "output_text", "text": say.text, "annotations": [], "logprobs": []}
    if say.script.refusal is not None:
        part = {"type": "refusal", "refusal": say.script.refusal}
    item = {"id": f"msg_{say.id}", "type": "message", "status": "completed", "role": "assistant"}
    return [item | {"content": [part]}]


def _response_status(say: Say) -> str:
    return "incomplete" if say.script.finish_reason == "length" else "completed"


def responses_json(say: Say) -> Json:
    return _response(say, _response_status(say), _response_output(say))


def _response_item_events(say: Say, item: Json, index: int) -> Iterator[Json]:
    at = {"item_id": item["id"], "output_index": index}
    if item["type"] == "function_call":
        started = item | {"status": "in_progress", "arguments": ""}
        yield {"type": "response.output_item.added", "output_index": index, "item": started}
        name, arguments = item["name"], item["arguments"]
        yield {"type": "response.function_call_arguments.delta", **at, "delta": arguments}
        done = {"name": name, "arguments": arguments}
        yield {"type": "response.function_call_arguments.done", **at, **done}
    else:
        part = item["content"][0]
        kind, key = ("refusal", "refusal") if part["type"] == "refusal" else ("output_text", "text")
        started = item | {"status": "in_progress", "content": []}
        yield {"type": "response.output_item.added", "output_index": index, "item": started}
        at |= {"content_index": 0}
        yield {"type": "response.content_part.added", **at, "part": part | {key: ""}}
        more: Json = {"logprobs": []} if kind == "output_text" else {}
        for token in say.tokens if kind == "output_text" else [part[key]]:
            yield {"type": f"response.{kind}.delta", **at, "delta": token, **more}
        yield {"type": f"response.{kind}.done", **at, key: part[key], **more}
        yield {"type": "response.content_part.done", **at, "part": part}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def responses_events(say: Say) -> Iterator[bytes]:
    output, status = _response_output(say), _response_status(say)
    events: list[Json] = [
        {"type": "response.created", "response": _response(say, "in_progress", [])},
        {"type": "response.in_progress", "response": _response(say, "in_progress", [])},
    ]
    for index, item in enumerate(output):
        events.extend(_response_item_events(say, item, index))
    events.append({"type": f"response.{status}", "response": _response(say, status, output)})
    for number, event in enumerate(events):
        yield sse(event | {"sequence_number": number}, event["type"])


# -- Anthropic messages


def _message_content(say: Say) -> list[Json]:
    if say.script.tool_calls:
        return [
            {"type": "tool_use", "id": f"toolu_{id_}", "name": name, "input": json.loads(args)}
            for id_, name, args in say.calls()
        ]
    return [{"type": "text", "text": say.text}] if say.text else []


def messages_json(say: Say) -> Json:
    went_in, out = say.spent
    return {
        "id": f"msg_{say.id}",
        "type": "message",
        "role": "assistant",
        "model": say.model,
        "content": _message_content(say),
        "stop_reason": ANTHROPIC_STOP[say.script.finish_reason],
        "stop_sequence": None,
        "usage": {"input_tokens": went_in, "output_tokens": out},
    }


def messages_events(say: Say) -> Iterator[bytes]:
    whole = messages_json(say)
    usage = whole["usage"]
    start = whole | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    events: list[Json] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(whole["content"]):
        if block["type"] == "tool_use":
            empty: Json = block | {"input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        else:
            empty = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": token} for token in say.tokens]
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        for delta in deltas:
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    out = {"output_tokens": usage["output_tokens"]}
    events.append({"type": "message_delta", "delta": ended, "usage": out})
    events.append({"type": "message_stop"})
    for event in events:
        yield sse(event, event["type"])


# -- embeddings


def embedding(text: str, dimension: int = 8) -> list[float]:
    """A unit vector that depends on the text alone."""
    digest = hashlib.shake_256(text.encode()).digest(2 * dimension)
    raw = [value / 32768 for value in struct.unpack(f"<{dimension}h", digest)]
    norm = sum(value * value for value in raw) ** 0.5
    return [value / norm for value in raw]


def embeddings_json(say: Say) -> Json:
    asked = say.body.get("input", "")
    texts = asked if isinstance(asked, list) else [asked]
    data = []
    for index, text in enumerate(texts):
        vector: Json = embedding(str(text), say.body.get("dimensions") or 8)
        if say.body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    spent = sum(len(str(text).split()) for text in texts)
    usage = {"prompt_tokens": spent, "total_tokens": spent}
    return {"object": "list", "data": data, "model": say.model, "usage": usage}
