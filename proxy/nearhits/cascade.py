"""A small model's confidence on the wire: asked for, read, and not passed on.

A stream is held back until as many tokens have come as are looked at, and goes on live then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson

from icl.confidence import TOKENS, Confidence, confidence_of
from proxy.wire.base import Fields, Json
from proxy.wire.sse import SseReader, data_of, with_data

_MOST = 1024 * 1024  # bytes of a stream that are held back
Check = Callable[[Confidence], bool]  # whether an answer of this confidence may go out


class Unsure(Exception):
    """The small model was not sure enough: its answer does not go out."""

    def __init__(self, confidence: Confidence, whole: bytes | None) -> None:
        """`whole` is its JSON form, None if only its beginning is known."""
        super().__init__(f"a least probability of {confidence.least:.2f}")
        self.confidence = confidence
        self.whole = whole


class NoConfidence(Exception):
    """The engine does not say how sure it is."""

    def __init__(self) -> None:
        super().__init__("its engine gives no logprobs: set offload[].cascade to false")


def asking_confidence(body: Mapping[str, Json]) -> dict[str, Json]:
    """Return the body of a chat that asks for the probabilities of tokens."""
    return {**body, "logprobs": True, "top_logprobs": 1}  # engines tell more unless asked for few


def checked(whole: Fields, check: Check) -> bytes:
    """Return a chat's answer, as JSON, as if no probabilities had been asked for.

    Raises Unsure if the check fails, NoConfidence without probabilities.
    """
    plain = orjson.dumps(_without(whole))
    _decide(confidence_in(whole), check, plain)
    return plain


def confidence_in(whole: Fields) -> Confidence | None:
    """Return how sure the model was of a chat's answer, None if it does not say."""
    return confidence_of(_logprobs(whole))


async def held_back(
    chunks: AsyncIterator[bytes], check: Check, read: Callable[[list[bytes]], Fields]
) -> AsyncIterator[bytes]:
    """Return a chat's stream without probabilities, its first tokens having passed the check.

    Raises Unsure if they do not, NoConfidence without probabilities. `read` makes the events of a
    stream that has ended by then its JSON form; what it raises for one that ended badly is raised.
    """
    reader = SseReader()
    kept: list[bytes] = []
    logprobs: list[float] = []
    size = silent = 0  # bytes; pieces of text that came without probabilities
    whole = None
    async for chunk in chunks:
        size += len(chunk)
        for event in reader.feed(chunk):
            plain, told, text = _read(event)
            kept.append(plain)
            logprobs += told
            silent += text and not told
        if len(logprobs) >= TOKENS:
            break
        if size > _MOST or (silent >= TOKENS and not logprobs):
            raise NoConfidence
    else:
        if rest := reader.flush():
            kept.append(rest)
        whole = orjson.dumps(read(kept))
    _decide(confidence_of(logprobs), check, whole)
    return _going_on(kept, chunks, reader)


async def _going_on(
    kept: list[bytes], chunks: AsyncIterator[bytes], reader: SseReader
) -> AsyncIterator[bytes]:
    yield b"".join(kept)
    async for chunk in chunks:
        events = [_read(event)[0] for event in reader.feed(chunk)]
        if events:
            yield b"".join(events)
    if rest := reader.flush():
        yield rest


def _decide(told: Confidence | None, check: Check, whole: bytes | None) -> None:
    if told is None:
        raise NoConfidence
    if not check(told):
        raise Unsure(told, whole)


def _read(event: bytes) -> tuple[bytes, list[float], bool]:
    """Return an event without its probabilities, those, and whether it has text of the answer."""
    try:
        data = orjson.loads(data_of(event))
    except orjson.JSONDecodeError:  # [DONE], a comment, or what the client shall judge
        return event, [], False
    if not isinstance(data, dict) or not data.get("choices"):
        return event, [], False
    return with_data(event, _without(data)), _logprobs(data), _has_text(data)


def _has_text(data: Fields) -> bool:
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        (choice,) = data["choices"]
        return bool(choice["delta"].get("content"))
    return False


def _logprobs(data: Fields) -> list[float]:
    """Return the log-probabilities of an answer's or a chunk's tokens; [] where it has none."""
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        (choice,) = data["choices"]
        return [float(token["logprob"]) for token in choice["logprobs"]["content"]]
    return []


def _without(data: Fields) -> Fields:
    choices: Any = data.get("choices")
    if not isinstance(choices, list):
        return data
    plain = [
        {key: value for key, value in choice.items() if key != "logprobs"}
        if isinstance(choice, dict)
        else choice
        for choice in choices
    ]
    return {**data, "choices": plain}
