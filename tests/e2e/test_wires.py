"""Every wire, spoken by its official SDK: misses, exact hits in both forms, and semantic hits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

from tests.e2e.conftest import Stage
from tests.fake_upstream import Script
from tests.harness import Proxy

MODEL = "gpt-4o-mini"
QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
ODD = " “naïve”, 你好\n\ndata: 🫖\r\nevent: x\u2028[DONE]\n "
KEEPS_TOOLS = {"name": "default", "store_tool_calls": True}
TOOL_CALLS = (("find", {"what": "kettle “steel”", "max": 3}), ("buy", {"ids": [1, 2], "note": ""}))


@dataclass
class Seen:
    """One answer as the SDK gave it."""

    headers: Any = field(compare=False)
    id: str
    text: str | None
    refusal: str | None = None
    calls: list[Any] = field(default_factory=list)
    usage: Any = None
    fingerprint: str | None = None

    @property
    def status(self) -> str:
        status: str = self.headers["cache-status"]
        return status


Say = Callable[..., Awaitable[Seen]]  # (client, question, stream=bool, **more)


def user(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


async def chat(client: Any, question: str, *, stream: bool, **more: Any) -> Seen:
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=user(question), stream=stream, **usage, **more
    )
    whole = raw.parse()
    if stream:
        state = ChatCompletionStreamState()
        async for chunk in whole:
            assert chunk.object == "chat.completion.chunk"
            state.handle_chunk(chunk)
        whole = state.get_final_completion()
    said = whole.choices[0].message
    calls = [(c.id, c.function.name, c.function.arguments) for c in said.tool_calls or []]
    return Seen(
        raw.headers,
        whole.id,
        said.content or None,
        said.refusal,
        calls,
        whole.usage.to_dict(),
        whole.system_fingerprint,
    )


async def completions(client: Any, question: str, *, stream: bool, **more: Any) -> Seen:
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    raw = await client.completions.with_raw_response.create(
        model=MODEL, prompt=question, stream=stream, **usage, **more
    )
    whole = raw.parse()
    chunks = [chunk async for chunk in whole] if stream else [whole]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    return Seen(
        raw.headers,
        chunks[0].id,
        "".join(choice.text for choice in choices),
        usage=chunks[-1].usage.to_dict(),
        fingerprint=chunks[-1].system_fingerprint,
    )


async def responses(client: Any, question: str, *, stream: bool, **more: Any) -> Seen:
    raw = await client.responses.with_raw_response.create(
        model=MODEL, input=question, stream=stream, **more
    )
    whole = raw.parse()
    if stream:
        events = [event async for event in whole]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        whole = events[-1].response
        parts = [e.delta for e in events if e.type == "response.output_text.delta"]
        assert "".join(parts) == whole.output_text
    calls = [(c.call_id, c.name, c.arguments) for c in whole.output if c.type == "function_call"]
    parts = [part for item in whole.output if item.type == "message" for part in item.content]
    refusals = [part.refusal for part in parts if part.type == "refusal"]
    text, usage = whole.output_text, whole.usage.to_dict()
    return Seen(raw.headers, whole.id, text, "".join(refusals) or None, calls, usage)


async def messages(client: Any, question: str, *, stream: bool, **more: Any) -> Seen:
    asked = {"model": MODEL, "max_tokens": 100, "messages": user(question), **more}
    if stream:
        async with client.messages.stream(**asked) as streamed:
            whole = await streamed.get_final_message()
            headers = streamed.response.headers
    else:
        raw = await client.messages.with_raw_response.create(**asked)
        whole, headers = await raw.parse(), raw.headers
    calls = [(b.id, b.name, b.input) for b in whole.content if b.type == "tool_use"]
    text = "".join(block.text for block in whole.content if block.type == "text")
    usage = whole.usage.to_dict()
    return Seen(headers, whole.id, text, None, calls, usage)


WIRES = [
    pytest.param("openai", chat, id="chat"),
    pytest.param("openai", completions, id="completions"),
    pytest.param("openai", responses, id="responses"),
    pytest.param("anthropic", messages, id="messages"),
]


def client_of(stage: Stage, sdk: str, proxy: Proxy) -> Any:
    return stage.openai(proxy) if sdk == "openai" else stage.anthropic(proxy)


async def missed(say: Say, client: Any, question: str, **more: Any) -> Seen:
    """Ask what must be a miss, and wait until its answer can hit."""
    seen = await say(client, question, **more)
    assert seen.status == "nearhit; fwd=miss"
    assert seen.headers["x-nearhit-category"] == "default"
    assert seen.headers["x-request-id"]
    assert not {"age", "x-nearhit-entry", "x-nearhit-similarity"} & set(seen.headers)
    await asyncio.sleep(0.1)
    return seen


def assert_hit(seen: Seen, detail: str) -> None:
    assert seen.status.startswith("nearhit; hit; ttl=")
    assert seen.status.endswith(f"; detail={detail}")
    assert seen.headers["x-nearhit-category"] == "default"
    assert seen.headers["x-request-id"]
    assert int(seen.headers["age"]) < 5
    assert len(seen.headers["x-nearhit-entry"]) == 32
    similarity = float(seen.headers["x-nearhit-similarity"])
    assert similarity == 1.0 if detail == "exact" else 0.9 < similarity < 1.0


@pytest.mark.parametrize(("sdk", "say"), WIRES)
async def test_an_exact_repeat_is_the_same_answer_whatever_form_came_first(
    stage: Stage, sdk: str, say: Say
) -> None:
    client = client_of(stage, sdk, await stage.proxy())
    stage.upstream.default = Script(text=ODD, fragment=7)
    for question, streamed_first in ((QUESTION, False), ("Name three kinds of tea.", True)):
        first = await missed(say, client, question, stream=streamed_first)
        assert first.text == ODD
        for stream in (True, False, True):
            again = await say(client, question, stream=stream)
            assert_hit(again, "exact")
            assert again == first
    assert len(stage.upstream.calls) == 2


@pytest.mark.parametrize(("sdk", "say"), WIRES)
async def test_a_rephrasing_is_answered_in_both_forms(stage: Stage, sdk: str, say: Say) -> None:
    client = client_of(stage, sdk, await stage.proxy())
    first = await missed(say, client, QUESTION, stream=False)
    for stream in (False, True):
        near = await say(client, REPHRASED, stream=stream)
        assert_hit(near, "semantic")
        assert near == first
    other = await missed(say, client, "Name three kinds of tea.", stream=True)
    assert other.text != first.text
    assert len(stage.upstream.calls) == 2


@pytest.mark.parametrize(("sdk", "say"), [WIRES[0], *WIRES[2:]])
async def test_stored_tool_calls_are_replayed_whole(stage: Stage, sdk: str, say: Say) -> None:
    client = client_of(stage, sdk, await stage.proxy(KEEPS_TOOLS))
    stage.upstream.default = Script(tool_calls=TOOL_CALLS, finish_reason="tool_calls")
    for question, streamed_first in ((QUESTION, False), ("Name three kinds of tea.", True)):
        first = await missed(say, client, question, stream=streamed_first)
        assert [call[1] for call in first.calls] == ["find", "buy"]
        for stream in (True, False):
            again = await say(client, question, stream=stream)
            assert_hit(again, "exact")
            assert again == first
    assert len(stage.upstream.calls) == 2


@pytest.mark.parametrize(("sdk", "say"), WIRES[::2])
async def test_a_refusal_is_replayed_as_a_refusal(stage: Stage, sdk: str, say: Say) -> None:
    client = client_of(stage, sdk, await stage.proxy())
    stage.upstream.default = Script(refusal="No, I'd rather not.")
    for question, streamed_first in ((QUESTION, False), ("Name three kinds of tea.", True)):
        first = await missed(say, client, question, stream=streamed_first)
        assert first.refusal is not None
        assert not first.text
        for stream in (True, False):
            again = await say(client, question, stream=stream)
            assert_hit(again, "exact")
            assert again == first


async def test_the_same_question_on_another_wire_is_another_question(stage: Stage) -> None:
    proxy = await stage.proxy()
    for wire in WIRES:
        sdk, say = wire.values
        assert isinstance(sdk, str)
        await missed(say, client_of(stage, sdk, proxy), QUESTION, stream=False)  # type: ignore[arg-type]
    assert len({call.path for call in stage.upstream.calls}) == len(WIRES)


@pytest.mark.parametrize(
    ("path", "asks"),
    [
        pytest.param("/chat/completions", {"messages": user(QUESTION)}, id="chat"),
        pytest.param("/completions", {"prompt": QUESTION}, id="completions"),
    ],
)
async def test_a_stream_shows_usage_to_those_who_asked_for_it_alone(
    stage: Stage, path: str, asks: dict[str, Any]
) -> None:
    proxy = await stage.proxy()
    silent = {"model": MODEL, "stream": True, **asks}
    asking = {**silent, "stream_options": {"include_usage": True}}

    async def streamed(body: dict[str, Any]) -> tuple[str, str]:
        async with stage.http.post(f"{proxy.base_url}{path}", json=body) as answer:
            return answer.headers["cache-status"], await answer.text()

    stage.upstream.play(Script(token_delay=0.02))  # time for all to join
    joined = await asyncio.gather(streamed(silent), streamed(asking), streamed(silent))
    assert sorted(status for status, _ in joined) == [
        "nearhit; fwd=miss",
        *["nearhit; fwd=miss; collapsed"] * 2,
    ]
    await asyncio.sleep(0.1)
    hits = [await streamed(body) for body in (silent, asking)]
    assert all(status.startswith("nearhit; hit") for status, _ in hits)
    for _, text in (joined[0], joined[2], hits[0]):
        assert "usage" not in text
    for _, text in (joined[1], hits[1]):
        assert text.count('"usage":{') + text.count('"usage": {') == 1
        assert text.endswith("data: [DONE]\n\n")
    assert len(stage.upstream.calls) == 1
    assert stage.upstream.calls[0].body["stream_options"] == {"include_usage": True}


async def test_choices_and_logprobs_are_replayed_in_both_forms(stage: Stage) -> None:
    client = stage.openai(await stage.proxy())
    asked: Any = {"model": MODEL, "messages": user(QUESTION), "n": 2, "logprobs": True}
    first = await client.chat.completions.create(**asked)
    await asyncio.sleep(0.1)
    state = ChatCompletionStreamState()
    async for chunk in await client.chat.completions.create(**asked, stream=True):
        state.handle_chunk(chunk)
    replayed = state.get_final_completion()
    assert [choice.index for choice in replayed.choices] == [0, 1]
    for one, two in zip(first.choices, replayed.choices, strict=True):
        assert one.message.content == two.message.content
        assert one.logprobs is not None and two.logprobs is not None
        assert one.logprobs.content == two.logprobs.content
    assert len(stage.upstream.calls) == 1


async def test_the_sdks_own_stream_helpers_accept_misses_and_replays(stage: Stage) -> None:
    proxy = await stage.proxy(KEEPS_TOOLS)
    client, claude = stage.openai(proxy), client_of(stage, "anthropic", proxy)
    asked: Any = user(QUESTION)
    answers = []
    for _ in ("miss", "hit"):
        chatting = client.chat.completions.stream(model=MODEL, messages=asked)
        async with chatting as chatted:
            completion = await chatted.get_final_completion()
        async with client.responses.stream(model=MODEL, input=QUESTION) as responded:
            response = await responded.get_final_response()
        raw = await claude.messages.create(model=MODEL, max_tokens=100, messages=asked, stream=True)
        kinds = [event.type async for event in raw if event.type != "content_block_delta"]
        answers.append((completion.choices[0].message.content, response.output_text, kinds))
        await asyncio.sleep(0.1)
    assert answers[0] == answers[1]
    assert answers[0][2] == [
        *("message_start", "content_block_start", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    assert len(stage.upstream.calls) == 3


async def test_the_synchronous_client_gets_the_same(stage: Stage) -> None:
    proxy = await stage.proxy()

    def talk() -> list[tuple[str, str | None]]:
        with openai.OpenAI(base_url=proxy.base_url, api_key="sk-sync", max_retries=0) as client:
            asked: Any = {"model": MODEL, "messages": user(QUESTION)}
            raw = client.chat.completions.with_raw_response
            seen = []
            for _ in range(2):
                answer = raw.create(**asked)
                seen.append((answer.headers["cache-status"], answer.parse().id))
                time.sleep(0.1)
            chunks = list(client.chat.completions.create(**asked, stream=True))
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            return [*seen, (text, chunks[0].id)]

    (first, id_1), (second, id_2), (text, id_3) = await asyncio.to_thread(talk)
    assert first == "nearhit; fwd=miss"
    assert second.endswith("detail=exact")
    assert text == f"Answer 1 to: {QUESTION}"
    assert id_1 == id_2 == id_3


@pytest.mark.parametrize("encoding", ["float", "base64", None])
async def test_embeddings_hit_on_the_very_same_request_alone(
    stage: Stage, encoding: str | None
) -> None:
    client = stage.openai(await stage.proxy())
    more: Any = {} if encoding is None else {"encoding_format": encoding}

    async def embed(texts: str | list[str]) -> tuple[str, Any]:
        raw = await client.embeddings.with_raw_response.create(
            model="text-embedding-3-small", input=texts, **more
        )
        await asyncio.sleep(0.1)
        return raw.headers["cache-status"], raw.parse()

    texts = [QUESTION, REPHRASED]
    miss, first = await embed(texts)
    hit, again = await embed(texts)
    assert miss == "nearhit; fwd=miss"
    assert hit.endswith("detail=exact")
    assert again == first
    assert again.data[0].embedding != again.data[1].embedding
    for other in (texts[::-1], QUESTION, REPHRASED):
        assert (await embed(other))[0] == "nearhit; fwd=miss"


async def test_embeddings_are_json_even_to_those_who_ask_for_a_stream(stage: Stage) -> None:
    proxy = await stage.proxy()
    body = {"model": "e", "input": QUESTION}
    for more in ({}, {"stream": True}):
        async with stage.http.post(f"{proxy.base_url}/embeddings", json=body | more) as answer:
            assert answer.content_type == "application/json"
            assert len((await answer.json())["data"]) == 1
        await asyncio.sleep(0.1)
    assert answer.headers["cache-status"].endswith("detail=exact")


async def test_models_are_those_configured_by_name_and_those_reported(stage: Stage) -> None:
    stage.upstream.models = ("gpt-4o-mini", "claude-haiku")
    url = stage.upstream.base_url
    proxy = await stage.proxy(
        upstreams=[
            {"name": "all", "base_url": url, "models": ["*", "house-model"]},
            {"name": "claude", "base_url": "http://127.0.0.1:9/v1", "models": ["claude-*"]},
        ]
    )
    listed = {model.id: model.owned_by async for model in stage.openai(proxy).models.list()}
    # claude-haiku is reported by an upstream that calls for it would never reach.
    assert listed == {"gpt-4o-mini": "fake", "house-model": "all"}
    assert stage.upstream.calls[0].headers["authorization"] == "Bearer sk-test"
