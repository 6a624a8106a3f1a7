"""Anthropic messages as events, to and from their JSON form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from proxy.wire.answer import pieces
from proxy.wire.base import Fields, Json
from proxy.wire.numbers import read_exactly
from proxy.wire.sse import BrokenStream, encode, payloads

_ENDING = ("stop_reason", "stop_sequence", "stop_details")
# Deltas of text: what they carry, which is also what they grow.
_TEXT_DELTAS = {"text_delta": "text", "thinking_delta": "thinking"}


def assemble_message(events: Iterable[bytes]) -> Fields | None:
    """Return the message of a stream; None unless it ran from message_start to message_stop."""
    building = _Building()
    try:
        for event in payloads(events):
            if event is not None and event.get("type") != "ping":
                building.take(event)
    except BrokenStream:
        return None
    return building.message if building.stopped else None


class _Building:
    """A message while its events arrive, in the only order that the API gives them in."""

    def __init__(self) -> None:
        self.message: Fields = {}
        self.stopped = False
        self._block: Fields | None = None
        self._input = ""  # of the block, as JSON text

    def take(self, event: Fields) -> None:
        """Add one event; raise BrokenStream where it does not fit."""
        kind = event.get("type")
        if self.stopped or (kind == "message_start") == bool(self.message):
            raise BrokenStream(f"{kind} out of order")
        if kind == "message_start":
            self._start(event.get("message"))
        elif kind == "content_block_start" and self._block is None:
            self._start_block(event)
        elif kind == "content_block_delta":
            self._grow_block(self._open_block(event), event.get("delta"))
        elif kind == "content_block_stop":
            self._stop_block(self._open_block(event))
        elif kind == "message_delta" and self._block is None:
            self._take_ending(event)
        elif kind == "message_stop" and self.message.get("stop_reason") and self._block is None:
            self.stopped = True
        else:  # a kind that nobody here knows may carry a part of the answer
            raise BrokenStream(f"{kind} is unknown or out of order")

    def _start(self, message: Json) -> None:
        if not isinstance(message, dict) or message.get("content") != []:
            raise BrokenStream("message_start without a message")
        self.message = message

    def _start_block(self, event: Fields) -> None:
        block = event.get("content_block")
        if not isinstance(block, dict) or event.get("index") != len(self.message["content"]):
            raise BrokenStream("a content block out of order")
        self._block, self._input = block, ""

    def _open_block(self, event: Fields) -> Fields:
        if self._block is None or event.get("index") != len(self.message["content"]):
            raise BrokenStream("no such content block is open")
        return self._block

    def _grow_block(self, block: Fields, delta: Json) -> None:
        kind = delta.get("type") if isinstance(delta, dict) else None
        if kind in ("text_delta", "thinking_delta"):
            field = _TEXT_DELTAS[kind]
            block[field] = _text(block, field) + _text(delta, field)
        elif kind == "signature_delta":
            block["signature"] = _text(delta, "signature")
        elif kind == "input_json_delta":
            self._input += _text(delta, "partial_json")
        elif kind == "citations_delta" and isinstance(block.get("citations"), list | None):
            block["citations"] = [*(block.get("citations") or []), delta.get("citation")]
        else:
            raise BrokenStream(f"unknown delta {kind}")

    def _stop_block(self, block: Fields) -> None:
        if self._input:
            try:
                block["input"] = read_exactly(self._input.encode())
            except ValueError as error:
                raise BrokenStream(f"a tool's input cannot be read: {error}") from None
        self.message["content"].append(block)
        self._block = None

    def _take_ending(self, event: Fields) -> None:
        for key, value in event.items():
            if key == "delta":
                _overlay(self.message, value)
            elif key == "usage" and value is not None:
                _overlay(self.message.setdefault("usage", {}), value)
            elif key not in ("type", "usage"):
                _overlay(self.message, {key: value})


def _text(fields: Fields, name: str) -> str:
    text = fields.get(name)
    if not isinstance(text, str):
        raise BrokenStream(f"{name} is no text")
    return text


def _overlay(into: Json, newer: Json) -> None:
    """Set what is newer; a null takes nothing away."""
    if not isinstance(into, dict) or not isinstance(newer, dict) or "content" in newer:
        raise BrokenStream("nothing to overlay")
    for key, value in newer.items():
        if value is not None or key not in into:
            into[key] = value


def replay_message(answer: Fields) -> Iterator[bytes]:
    """Yield a message as the events that would have built it."""
    for event in _events(answer):
        yield encode(event, event["type"])


def _events(answer: Fields) -> Iterator[Fields]:
    begun = {**answer, "content": [], **{key: None for key in _ENDING if key in answer}}
    ended: Fields = {
        "type": "message_delta",
        "delta": {k: answer[k] for k in _ENDING if k in answer},
    }
    usage = answer.get("usage")
    if isinstance(usage, dict) and usage.get("output_tokens") is not None:
        begun["usage"] = {**usage, "output_tokens": 0}
        ended["usage"] = {"output_tokens": usage["output_tokens"]}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(answer["content"]):
        empty, deltas = _taken_apart(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield ended
    yield {"type": "message_stop"}


def _taken_apart(block: Fields) -> tuple[Fields, list[Fields]]:
    """The block as it starts, and the deltas that complete it."""
    empty, deltas = dict(block), []
    kind = block["type"]
    if kind in ("text", "thinking"):
        empty[kind] = ""
        deltas = [{"type": f"{kind}_delta", kind: piece} for piece in pieces(block[kind])]
    if kind == "text" and isinstance(cited := block.get("citations"), list):
        empty["citations"] = []
        deltas += [{"type": "citations_delta", "citation": citation} for citation in cited]
    if kind == "thinking" and isinstance(signature := block.get("signature"), str):
        empty["signature"] = ""
        deltas.append({"type": "signature_delta", "signature": signature})
    if kind == "tool_use" and isinstance(block.get("input"), dict):
        empty["input"] = {}
        written = pieces(orjson.dumps(block["input"]).decode())
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in written]
    return empty, deltas
