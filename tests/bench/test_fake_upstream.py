"""The fake upstream has OpenAI's shapes: the official SDK reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import openai
import orjson
import pytest
from openai.types.chat import ChatCompletionMessageParam

from bench.fake_upstream import CHAT, WORD, FakeUpstream, Pace, chunks, completion
from bench.service import Capacity, Service

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def upstream() -> FakeUpstream:
    """One that answers at once, in three tokens."""
    return FakeUpstream(Pace(tokens=3))


@pytest.fixture
async def http(upstream: FakeUpstream) -> AsyncIterator[httpx.AsyncClient]:
    """A plain client of it, without a socket between."""
    transport = httpx.ASGITransport(app=upstream)
    async with httpx.AsyncClient(transport=transport, base_url="http://fake") as client:
        yield client


@pytest.fixture
def sdk(http: httpx.AsyncClient) -> Iterator[openai.AsyncOpenAI]:
    """The official client of it."""
    yield openai.AsyncOpenAI(base_url="http://fake/v1", api_key="none", http_client=http)


async def test_a_completion_is_about_a_kilobyte_and_has_usage(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="bench", messages=HELLO)
    assert answer.choices[0].message.content == WORD * 3
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "bench"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert 900 < len(orjson.dumps(completion("chatcmpl-1", "bench", Pace()))) < 1300


async def test_two_answers_have_two_ids(sdk: openai.AsyncOpenAI) -> None:
    first = await sdk.chat.completions.create(model="bench", messages=HELLO)
    second = await sdk.chat.completions.create(model="bench", messages=HELLO)
    assert first.id != second.id


@pytest.mark.parametrize("usage", [True, False], ids=["with usage", "without usage"])
async def test_a_stream_says_the_same_as_the_completion(
    sdk: openai.AsyncOpenAI, usage: bool
) -> None:
    stream = await sdk.chat.completions.create(
        model="bench", messages=HELLO, stream=True, stream_options={"include_usage": usage}
    )
    events = [event async for event in stream]
    deltas = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(deltas) == WORD * 3
    assert [e.choices[0].finish_reason for e in events if e.choices][-1] == "stop"
    assert [event.usage is not None for event in events].count(True) == int(usage)


def test_a_stream_ends_with_done() -> None:
    events = chunks("chatcmpl-1", "bench", Pace(tokens=2), include_usage=False)
    assert events[-1] == b"data: [DONE]\n\n"
    assert len(events) == 1 + 2 + 1 + 1  # role, tokens, finish reason, end


async def test_embeddings_are_unit_vectors_that_depend_on_the_text(
    sdk: openai.AsyncOpenAI,
) -> None:
    answer = await sdk.embeddings.create(model="bench", input=["one", "two", "one"])
    first, second, again = (item.embedding for item in answer.data)
    assert len(first) == 384
    assert sum(x * x for x in first) == pytest.approx(1.0, abs=1e-3)
    assert first == again != second


async def test_embeddings_come_as_numbers_when_asked_for(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/embeddings", json={"model": "bench", "input": "one"})
    assert len(answer.json()["data"][0]["embedding"]) == 384


async def test_models_are_listed(sdk: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == ["fake"]


async def test_calls_are_counted_by_path(http: httpx.AsyncClient) -> None:
    for path in ("/v1/moderations", "/v1/anything/else", CHAT):
        assert (await http.post(path, json={"model": "bench"})).status_code == 200
    counted = (await http.get("/calls")).json()
    assert counted == {"total": 3, "paths": {"other": 2, CHAT: 1}}


async def test_a_path_outside_the_api_is_not_found_and_not_counted(
    http: httpx.AsyncClient, upstream: FakeUpstream
) -> None:
    assert (await http.get("/nowhere")).status_code == 404
    assert upstream.calls.total() == 0


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_delays_add_up(stream: bool) -> None:
    slow = FakeUpstream(Pace(first_token=0.02, token=0.005, tokens=4))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=slow), base_url="http://fake"
    ) as client:
        started = time.perf_counter()
        await client.post(CHAT, json={"model": "bench", "stream": stream})
    assert time.perf_counter() - started >= 0.02 + 4 * 0.005


@pytest.mark.parametrize(
    "pace",
    [
        pytest.param({"first_token": -1.0}, id="a negative first delay"),
        pytest.param({"token": -1.0}, id="a negative token delay"),
        pytest.param({"tokens": 0}, id="no tokens"),
    ],
)
def test_an_impossible_pace_is_refused(pace: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be >= "):
        Pace(**pace)  # type: ignore[arg-type]  # the table mixes floats and ints


def client_of(upstream: FakeUpstream) -> httpx.AsyncClient:
    """A plain client of an upstream, without a socket between."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=upstream), base_url="http://fake")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_an_echo_answers_with_the_last_message(stream: bool) -> None:
    messages = [{"role": "system", "content": "guide"}, {"role": "user", "content": "why?"}]
    async with client_of(FakeUpstream(Pace(), echo=True)) as client:
        body = {"model": "bench", "stream": stream, "messages": messages}
        answer = await client.post(CHAT, json=body)
    assert '"content":"why?"' in answer.text
    assert WORD not in answer.text


async def test_a_limited_rate_of_service_makes_the_second_call_wait() -> None:
    upstream = FakeUpstream(Pace(), Service(Capacity(places=1, seconds=0.05)))
    async with client_of(upstream) as client:
        started = time.perf_counter()
        await asyncio.gather(*(client.post(CHAT, json={"messages": HELLO}) for _ in range(2)))
    assert time.perf_counter() - started >= 0.1


async def test_the_service_is_slowed_down_and_up_again_from_outside() -> None:
    upstream = FakeUpstream(Pace(), Service(Capacity(places=1, seconds=0.05)))
    async with client_of(upstream) as client:
        slowed = await client.post("/service", json={"slowdown": 2.5})
        assert slowed.json() == {"slowdown": 2.5, "in_flight": 0, "most": 0}
        assert (await client.get("/service")).json()["slowdown"] == 2.5
        assert (await client.post("/service", json={"slowdown": 1})).json()["slowdown"] == 1
    assert upstream.calls.total() == 0


@pytest.mark.parametrize("body", [b"{", b"{}", b"[]", b'{"slowdown": 0}'])
async def test_a_slowdown_that_makes_no_sense_is_refused(body: bytes) -> None:
    upstream = FakeUpstream(Pace(), Service(Capacity(places=1, seconds=0.05)))
    async with client_of(upstream) as client:
        assert (await client.post("/service", content=body)).status_code == 400
        assert (await client.get("/service")).json()["slowdown"] == 1


async def test_without_a_limited_rate_there_is_nothing_to_slow_down(
    http: httpx.AsyncClient,
) -> None:
    assert (await http.get("/service")).status_code == 404
