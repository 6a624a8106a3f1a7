"""The official anthropic client reads our replayed streams as it reads the JSON form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import orjson
import pytest
from anthropic import Anthropic, AsyncAnthropic

from proxy.wire.base import Json
from proxy.wire.messages import MessagesWire

MESSAGES = MessagesWire()
SDK_OPTIONS: dict[str, Any] = {"api_key": "sk-test", "base_url": "http://nearhit", "max_retries": 0}
ASKED: Any = {
    "model": "m",
    "max_tokens": 256,
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
}
LONG = "The sky is blue because air scatters short waves more than long ones. " * 5
CITATION = {
    "type": "char_location",
    "cited_text": "blue",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 4,
    "end_char_index": 8,
}


def answer(*blocks: Json, stop: str = "end_turn", **more: Json) -> Json:
    usage = {
        "input_tokens": 9,
        "output_tokens": 40,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 0,
        "service_tier": "standard",
    }
    whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    ends = {"stop_reason": stop, "stop_sequence": None}
    return {**whole, "content": list(blocks), **ends, "usage": usage, **more}


ANSWERS = {
    "a text": answer({"type": "text", "text": LONG}),
    "a text with citations": answer(
        {"type": "text", "text": "It is "},
        {"type": "text", "text": "blue", "citations": [CITATION, CITATION]},
    ),
    "a stop sequence": answer(
        {"type": "text", "text": "Blue"}, stop="stop_sequence", stop_sequence="END"
    ),
    "thinking": answer(
        {"type": "thinking", "thinking": LONG, "signature": "EqQBCgIYAhIM"},
        {"type": "redacted_thinking", "data": "EmwKAhgBEgy3"},
        {"type": "text", "text": "Blue"},
    ),
    "tools": answer(
        {"type": "text", "text": "Let me look."},
        {
            "type": "tool_use",
            "id": "toolu_1",
            "name": "weather",
            "input": {"city": "Oslo", "days": [1, 2.5, None], "deep": {"é": True}},
        },
        {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
        stop="tool_use",
    ),
    "no blocks": answer(),
}


class Fragments(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A stream cut every few bytes, so that no event arrives in one chunk."""

    def __init__(self, stream: bytes) -> None:
        self._parts = [stream[i : i + 7] for i in range(0, len(stream), 7)]

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    async def __aiter__(self) -> Any:
        for part in self._parts:
            yield part


def serving(stored: Json) -> httpx2.MockTransport:
    def serve(request: httpx2.Request) -> httpx2.Response:
        body = orjson.loads(request.content)
        assert request.url.path == MESSAGES.path
        assert MESSAGES.read(body).text == "Why is the sky blue?"
        if body.get("stream") is not True:
            return httpx2.Response(200, json=stored)
        stream = b"".join(MESSAGES.replay(stored, body))
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, stream=Fragments(stream))

    return httpx2.MockTransport(serve)


def known(value: Any) -> Json:
    """What the SDK read, without the nulls that it fills in."""
    if isinstance(value, list):
        return [known(inner) for inner in value]
    if isinstance(value, dict):
        return {k: known(v) for k, v in value.items() if v is not None}
    return value


@pytest.mark.parametrize("stored", ANSWERS.values(), ids=ANSWERS.keys())
def test_the_stream_helper_gives_the_json_form(stored: Json) -> None:
    http_client = httpx2.Client(transport=serving(stored))
    with Anthropic(http_client=http_client, **SDK_OPTIONS) as sdk:
        whole = sdk.messages.create(**ASKED)
        with sdk.messages.stream(**ASKED) as stream:
            final = stream.get_final_message()
    assert known(final.to_dict()) == known(whole.to_dict()) == known(stored)
    assert final.usage == whole.usage


@pytest.mark.parametrize("stored", ANSWERS.values(), ids=ANSWERS.keys())
async def test_the_async_client_reads_the_same(stored: Json) -> None:
    http_client = httpx2.AsyncClient(transport=serving(stored))
    async with AsyncAnthropic(http_client=http_client, **SDK_OPTIONS) as sdk:
        async with sdk.messages.stream(**ASKED) as stream:
            texts = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
    assert "".join(texts) == "".join(b.get("text", "") for b in stored["content"])
    assert known(final.to_dict()) == known(stored)


@pytest.mark.parametrize("stored", ANSWERS.values(), ids=ANSWERS.keys())
def test_every_event_has_a_type_that_the_sdk_knows(stored: Json) -> None:
    http_client = httpx2.Client(transport=serving(stored))
    with Anthropic(http_client=http_client, **SDK_OPTIONS) as sdk:
        events = list(sdk.messages.create(**ASKED, stream=True))
    assert events[0].type == "message_start"
    assert [event.type for event in events[-2:]] == ["message_delta", "message_stop"]
    for event in events:
        assert type(event).model_validate(event.to_dict()) == event
