"""The official openai client reads our replayed streams as it reads the JSON form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.lib.streaming._deltas import accumulate_delta

from proxy.wire import WIRES
from proxy.wire.base import Json
from tests.proxy.wire.transcripts import CHAT_TRANSCRIPTS, completion

SDK_OPTIONS: dict[str, Any] = {
    "api_key": "sk-test",
    "base_url": "http://nearhit/v1",
    "max_retries": 0,
}
USAGE = {"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 49}
LONG = "The sky is blue because air scatters short waves more than long ones. " * 5
ASKED: Any = {
    "model": "m",
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    "tools": [
        {"type": "function", "function": {"name": "weather", "parameters": {}, "strict": True}}
    ],
}
WITH_USAGE: Any = {"include_usage": True}


class Fragments(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A stream cut every few bytes, so that no event arrives in one chunk."""

    def __init__(self, stream: bytes) -> None:
        self._parts = [stream[i : i + 7] for i in range(0, len(stream), 7)]

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    async def __aiter__(self) -> Any:
        for part in self._parts:
            yield part


def serving(answer: Json) -> httpx.MockTransport:
    """Serve one stored answer on its route, as JSON or replayed."""

    def serve(request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        wire = WIRES[request.url.path]
        wire.read(body)
        if body.get("stream") is not True:
            return httpx.Response(200, json=answer)
        stream = b"".join(wire.replay(answer, body))
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=headers, stream=Fragments(stream))

    return httpx.MockTransport(serve)


def client(answer: Json) -> OpenAI:
    return OpenAI(http_client=httpx.Client(transport=serving(answer)), **SDK_OPTIONS)


# What the SDK adds while it reads a stream, and what it takes from the first chunk only.
_UNCOMPARED = ("parsed", "parsed_arguments", "index", "content_filter_results")


def comparable(value: Any) -> Json:
    """What the SDK read, without nulls and what it does not read alike itself."""
    if isinstance(value, list):
        return [comparable(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {k: comparable(v) for k, v in value.items() if k not in _UNCOMPARED and v is not None}


CHAT_ANSWERS = {name: answer for name, (_, answer) in CHAT_TRANSCRIPTS.items()}
CHAT_ANSWERS["a long text"] = completion({"content": LONG, "refusal": None}, usage=USAGE)


@pytest.mark.parametrize("answer", CHAT_ANSWERS.values(), ids=CHAT_ANSWERS.keys())
def test_chat_stream_helper_gives_the_json_form(answer: Json) -> None:
    with client(answer) as sdk:
        whole = sdk.chat.completions.create(**ASKED)
        with sdk.chat.completions.stream(**ASKED, stream_options=WITH_USAGE) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
    assert comparable(final.to_dict()) == comparable(whole.to_dict())
    assert final.usage == whole.usage
    assert final.system_fingerprint == whole.system_fingerprint
    assert ("content.done" in kinds) is bool(whole.choices[0].message.content)
    assert ("refusal.done" in kinds) is bool(whole.choices[0].message.refusal)
    calls = whole.choices[0].message.tool_calls
    assert ("tool_calls.function.arguments.done" in kinds) is bool(calls)


def test_two_choices_are_told_apart() -> None:
    answer = completion({"content": LONG})
    answer["choices"].append(
        {"index": 1, "message": {"role": "assistant", "content": "Blue"}, "finish_reason": "stop"}
    )
    with client(answer) as sdk:
        with sdk.chat.completions.stream(**ASKED, n=2) as stream:
            final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == [LONG, "Blue"]
    assert [choice.finish_reason for choice in final.choices] == ["stop", "stop"]


def test_custom_tool_calls_reach_who_adds_up_deltas() -> None:
    call = {"id": "call_a", "type": "custom", "custom": {"name": "sql", "input": "select 1 " * 30}}
    with client(completion({"content": None, "tool_calls": [call]}, "tool_calls")) as sdk:
        chunks = list(sdk.chat.completions.create(**ASKED, stream=True))
    deltas = [chunk.choices[0].delta.to_dict() for chunk in chunks]
    total: dict[Any, Any] = {}
    for delta in deltas:
        total = accumulate_delta(total, dict(delta))
    assert total["tool_calls"] == [{"index": 0, **call}]
    assert len(deltas) > 4


def test_chat_chunks_carry_usage_only_when_asked_for() -> None:
    answer = CHAT_ANSWERS["a long text"]
    with client(answer) as sdk:
        plain = list(sdk.chat.completions.create(**ASKED, stream=True))
        asked = list(sdk.chat.completions.create(**ASKED, stream=True, stream_options=WITH_USAGE))
    assert all(chunk.choices and "usage" not in chunk.to_dict() for chunk in plain)
    assert asked[-1].choices == []
    assert asked[-1].usage is not None and asked[-1].usage.total_tokens == 49
    assert all(chunk.usage is None for chunk in asked[:-1])
    assert "".join(c.choices[0].delta.content or "" for c in plain) == LONG


async def test_the_async_client_reads_the_same() -> None:
    answer = CHAT_ANSWERS["OpenAI, two tool calls"]
    http_client = httpx.AsyncClient(transport=serving(answer))
    async with AsyncOpenAI(http_client=http_client, **SDK_OPTIONS) as sdk:
        whole = await sdk.chat.completions.create(**ASKED)
        async with sdk.chat.completions.stream(**ASKED) as stream:
            final = await stream.get_final_completion()
    assert comparable(final.to_dict()) == comparable(whole.to_dict())


def test_completions_chunks_give_the_json_form() -> None:
    answer = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 17,
        "model": "m",
        "choices": [{"index": 0, "text": LONG, "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    with client(answer) as sdk:
        whole = sdk.completions.create(model="m", prompt="Why?")
        stream = sdk.completions.create(
            model="m", prompt="Why?", stream=True, stream_options=WITH_USAGE
        )
        chunks = list(stream)
    pieces = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(piece.text for piece in pieces) == whole.choices[0].text == LONG
    assert pieces[-1].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage


OUTPUT: list[Json] = [
    {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Scattering, then."}],
    },
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": LONG, "annotations": [], "logprobs": []}],
    },
    {
        "id": "msg_2",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "refusal", "refusal": "I can't say more."}],
    },
    {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "weather",
        "arguments": '{"city": "Oslo"}',
        "status": "completed",
    },
]
RESPONSE: Json = {
    "id": "resp_1",
    "object": "response",
    "created_at": 17,
    "status": "completed",
    "model": "m",
    "output": OUTPUT,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 49,
    },
}


def test_responses_stream_helper_gives_the_json_form() -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": {}, "strict": False}]
    with client(RESPONSE) as sdk:
        whole = sdk.responses.create(model="m", input="Why?", tools=tools)
        with sdk.responses.stream(model="m", input="Why?", tools=tools) as stream:
            events = list(stream)
            final = stream.get_final_response()
    assert comparable(final.to_dict()) == comparable(whole.to_dict())
    assert final.output_text == whole.output_text == LONG
    assert final.usage == whole.usage
    assert [event.sequence_number for event in events] == list(range(len(events)))
    texts = [event.snapshot for event in events if event.type == "response.output_text.delta"]
    assert len(texts) > 3 and texts[-1] == LONG
    arguments = [e for e in events if e.type == "response.function_call_arguments.delta"]
    assert arguments[-1].snapshot == '{"city": "Oslo"}'


def test_responses_events_are_all_known_to_the_sdk() -> None:
    with client(RESPONSE) as sdk:
        events = list(sdk.responses.create(model="m", input="Why?", stream=True))
    for event in events:
        again = type(event).model_validate(event.to_dict())
        assert again == event, "the SDK's own type refuses the event"
    assert len({type(event) for event in events}) >= 15


def test_an_item_of_each_kind_is_added_before_it_is_done() -> None:
    with client(RESPONSE) as sdk:
        events = list(sdk.responses.create(model="m", input="Why?", stream=True))
    added = [e.item.type for e in events if e.type == "response.output_item.added"]
    done = [e.item.to_dict() for e in events if e.type == "response.output_item.done"]
    assert added == [item["type"] for item in OUTPUT]
    assert done == OUTPUT
