"""Streams of chunks, as chat and completions have them, to and from their JSON form.

A chunk is the JSON form with, per choice, a delta in place of the message. Merging follows what
the official SDK does with deltas, so that fields nobody here has heard of survive too; where that
would guess (a tool call whose id changes half-way), the stream counts as broken instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import orjson

from proxy.wire.answer import is_error, is_writable
from proxy.wire.base import Fields, Json
from proxy.wire.sse import DONE, BrokenStream, data_of, encode, payloads, with_data

_FIRST_WINS = ("id", "created", "model")
_PADDING = "obfuscation"  # of random length, so that nobody reads a text off its chunks' sizes
_STAMPED = ("id", "created", "model", "system_fingerprint", "service_tier")  # on every chunk
# Texts that come whole, once or repeated; all other texts in a delta grow piece by piece.
_NAMES = frozenset({"role", "id", "type", "name", "format", "data"})


# -- stream to JSON


def assemble_chunks(
    events: Iterable[bytes], name: str, finish: Callable[[Fields], None]
) -> Fields | None:
    """Return the JSON form, with `name` as its object; None unless the stream ended cleanly.

    `finish` puts each merged choice into its JSON shape, and may raise BrokenStream.
    """
    answer: Fields = {}
    choices: dict[int, Fields] = {}
    done = False
    try:
        for chunk in payloads(events):
            if chunk is None:
                done = True
                continue
            _fold_chunk(answer, choices, chunk)
        if not done or not choices or sorted(choices) != list(range(len(choices))):
            return None
        for choice in choices.values():
            if choice.get("finish_reason") is None:
                return None
            finish(choice)
    except (BrokenStream, RecursionError):
        return None
    return {**answer, "object": name, "choices": [choices[i] for i in range(len(choices))]}


def _fold_chunk(answer: Fields, choices: dict[int, Fields], chunk: Fields) -> None:
    for key, value in chunk.items():
        if key == "choices":
            if not isinstance(value, list | None):
                raise BrokenStream("choices that are no list")
            for piece in value or []:
                _fold_piece(choices, piece)
        elif key in _FIRST_WINS:
            answer[key] = answer.get(key) or value
        elif key != _PADDING and (value is not None or key not in answer):
            answer[key] = value


def _fold_piece(choices: dict[int, Fields], piece: Json) -> None:
    index = piece.get("index") if isinstance(piece, dict) else None
    if type(index) is not int or "message" in piece:
        raise BrokenStream("not a piece of a choice")
    choice = choices.setdefault(index, {})
    for key, value in piece.items():
        old = choice.get(key)
        if key == "delta":
            merge(choice.setdefault("message", {}), value or {})
        elif key == "text" or (key == "logprobs" and isinstance(old, dict)):
            merge(choice, {key: value})
        elif isinstance(old, list) and isinstance(value, list):
            old.extend(value)
        elif value is not None or key not in choice:
            choice[key] = value


def merge(into: Fields, delta: Json) -> None:
    """Add a delta to what came before it, in place; raise BrokenStream where they contradict."""
    if not isinstance(delta, dict):
        raise BrokenStream("a delta that is no object")
    for key, new in delta.items():
        old = into.get(key)
        if key == "tool_calls" and new is not None:
            into[key] = [] if old is None else old
            _merge_lists(into[key], new, indexed=True)
        elif old is None:
            into[key] = new
        elif new is None:
            continue
        elif isinstance(old, str) and isinstance(new, str):
            if key in _NAMES and old and new and old != new:
                raise BrokenStream(f"two values of {key}")
            into[key] = (old or new) if key in _NAMES else old + new
        elif isinstance(old, dict) and isinstance(new, dict):
            merge(old, new)
        elif isinstance(old, list) and isinstance(new, list):
            _merge_lists(old, new)
        elif isinstance(old, str | dict | list) or isinstance(new, str | dict | list):
            raise BrokenStream(f"two types of {key}")
        else:
            into[key] = new


def _merge_lists(old: list[Json], new: Json, *, indexed: bool = False) -> None:
    if not isinstance(new, list):
        raise BrokenStream("tool calls that are no list")
    by_index = {e["index"]: e for e in old if isinstance(e, dict) and type(e.get("index")) is int}
    for entry in new:
        index = entry.get("index") if isinstance(entry, dict) else None
        if indexed and type(index) is not int:
            raise BrokenStream("a tool call without an index")
        if type(index) is int and index in by_index:
            merge(by_index[index], entry)
        else:
            old.append(entry)
            if type(index) is int:
                by_index[index] = entry


# -- JSON to stream


def replay_chunks(
    answer: Fields, body: Fields, name: str, cut: Callable[[Fields], Iterable[Fields]]
) -> Iterator[bytes]:
    """Yield a JSON answer as chunks, with `name` as their object; `cut` gives a choice's pieces."""
    stamp: Fields = {key: answer[key] for key in _STAMPED if key in answer}
    stamp["object"] = name
    rest = {k: v for k, v in answer.items() if k not in stamp and k not in ("choices", "usage")}
    counts = _wants_usage(body) and "usage" in answer
    usage = {"usage": None} if counts else {}
    for choice in answer["choices"]:
        for piece in cut(choice):
            yield encode({**stamp, **rest, "choices": [piece], **usage})
            rest = {}
    if counts and answer["usage"] is not None:
        yield encode({**stamp, "choices": [], "usage": answer["usage"]})
    yield DONE


# -- usage


def _wants_usage(body: Fields) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def with_usage(body: Fields) -> Fields:
    """Return the body with usage asked for, if it streams and has not asked; else itself."""
    options = body.get("stream_options")
    if body.get("stream") is not True or _wants_usage(body):
        return body
    if options is not None and not isinstance(options, dict):
        return body
    return {**body, "stream_options": {**(options or {}), "include_usage": True}}


def without_usage(event: bytes, body: Fields) -> bytes:
    """Return an event as a client sees it that may not have asked for usage; b"" hides it."""
    if b'"usage"' not in event or _wants_usage(body):
        return event
    try:
        chunk = orjson.loads(data_of(event))
        if not isinstance(chunk, dict) or "usage" not in chunk:
            return event
        usage = chunk.pop("usage")
        if usage is not None and not chunk.get("choices"):
            return b""
        return with_data(event, chunk)
    except (ValueError, TypeError):  # no JSON, or nested deeper than orjson writes
        return event


# -- what may be stored


def refuse_finish(finish: Json, calls_tools: bool, *, store_tool_calls: bool) -> str | None:
    """Say why a choice that ended so may not be stored, in the words of base.REFUSALS."""
    if finish in ("length", "content_filter"):
        return str(finish)
    if finish in ("tool_calls", "function_call") or (finish == "stop" and calls_tools):
        return None if store_tool_calls else "tool_calls"
    return None if finish == "stop" else "unfinished"


def refuse_choices(answer: Json, judge: Callable[[Fields], str | None]) -> str | None:
    """Say why an answer with choices may not be stored; `judge` says it for one choice."""
    if not isinstance(answer, dict):
        return "malformed"
    if is_error(answer):
        return "error"
    choices = answer.get("choices")
    if not isinstance(choices, list) or not is_writable(answer):
        return "malformed"
    for position, choice in enumerate(choices):
        index = choice.get("index") if isinstance(choice, dict) else None
        if type(index) is not int or index != position:
            return "malformed"
        if (reason := judge(choice)) is not None:
            return reason
    return None if choices else "empty"
