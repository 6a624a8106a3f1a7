"""Upstreams that fail: told faithfully, never stored, and never asked twice what may have run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anthropic
import openai
import orjson
import pytest
import pytest_asyncio

from proxy.wire.chat import ChatWire
from tests.e2e.conftest import Stage
from tests.e2e.ground import MISS, Ground, chat, counted, fresh_question, standing
from tests.fake_answers import sse
from tests.fake_upstream import Call, FakeUpstream, Script

shared_loop = pytest.mark.asyncio(loop_scope="module")

BROKEN = (openai.APIError, anthropic.APIError)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with standing(tmp_path_factory.mktemp("data")) as ground:
        yield ground


# -- each wire: ask in either form; return Cache-Status, read to the end

Say = Callable[[Ground, str, bool], Awaitable[str]]


async def say_chat(ground: Ground, question: str, stream: bool) -> str:
    asked: Any = [{"role": "user", "content": question}]
    create = ground.openai.chat.completions.with_raw_response.create
    return await to_the_end(await create(model="m", messages=asked, stream=stream), stream)


async def say_completions(ground: Ground, question: str, stream: bool) -> str:
    create = ground.openai.completions.with_raw_response.create
    return await to_the_end(await create(model="m", prompt=question, stream=stream), stream)


async def say_responses(ground: Ground, question: str, stream: bool) -> str:
    create = ground.openai.responses.with_raw_response.create
    return await to_the_end(await create(model="m", input=question, stream=stream), stream)


async def say_messages(ground: Ground, question: str, stream: bool) -> str:
    asked: Any = [{"role": "user", "content": question}]
    create = ground.anthropic.messages.with_raw_response.create
    raw: Any = await create(model="m", max_tokens=99, messages=asked, stream=stream)
    return await to_the_end(raw, stream)


async def to_the_end(raw: Any, stream: bool) -> str:
    whole = raw.parse()
    if asyncio.iscoroutine(whole):
        whole = await whole
    if stream:
        async for _ in whole:
            pass
    status: str = raw.headers["cache-status"]
    return status


WIRES = [
    pytest.param(say_chat, id="chat"),
    pytest.param(say_completions, id="completions"),
    pytest.param(say_responses, id="responses"),
    pytest.param(say_messages, id="messages"),
]


@shared_loop
@pytest.mark.parametrize("say", WIRES)
@pytest.mark.parametrize(
    ("script", "stream"),
    [
        pytest.param(Script(cut_after=3), True, id="cut within a stream"),
        pytest.param(Script(cut_after=0), True, id="cut before a stream's first event"),
        pytest.param(Script(error_after=2), True, id="error event within a stream"),
        pytest.param(Script(cut_after=20), False, id="cut within JSON"),
        pytest.param(Script(drop=True), True, id="closed without a byte, stream"),
        pytest.param(Script(drop=True), False, id="closed without a byte, JSON"),
    ],
)
async def test_an_answer_that_breaks_off_makes_the_sdk_raise_and_is_not_stored(
    ground: Ground, say: Say, script: Script, stream: bool
) -> None:
    question, before = fresh_question(), len(ground.upstream.calls)
    ground.upstream.play(script)
    with pytest.raises(BROKEN):
        await say(ground, question, stream)
    assert len(ground.upstream.calls) == before + 1  # it may have reached a model: not sent twice
    assert await say(ground, question, stream) == MISS
    await asyncio.sleep(0.1)
    assert (await say(ground, question, stream)).endswith("detail=exact")


@shared_loop
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        pytest.param(b"\x00\xff not JSON", "application/json", id="garbage"),
        pytest.param(b"<html>Sign in</html>", "text/html", id="HTML"),
        pytest.param(b'{"ok": true}', "application/json", id="other JSON"),
        pytest.param(b"[1, 2]", "application/json", id="a list"),
        pytest.param(b"", "application/json", id="nothing"),
        pytest.param(b'{"error": {"message": "no"}}', "application/json", id="error with 200"),
        pytest.param(b"data: nonsense\n\n", "text/event-stream", id="garbage events"),
        pytest.param(b"data: [DONE]\n\n", "text/event-stream", id="an empty stream"),
        pytest.param(b'data: {"id": "x', "text/event-stream", id="half an event"),
        pytest.param(sse({"usage": 5}), "text/event-stream", id="odd usage"),
    ],
)
async def test_garbage_with_a_200_is_passed_on_as_it_is_and_not_stored(
    ground: Ground, body: bytes, kind: str, stream: bool
) -> None:
    question, before = fresh_question(), await ground.admissions()
    ground.upstream.play(Script(body=body, content_type=kind), Script(body=body, content_type=kind))
    for _ in range(2):
        expected = b"" if body == sse({"usage": 5}) and stream else body
        assert await ground.chat(question, stream=stream) == (200, MISS, expected)
    after = await ground.admissions_after(before, 2)
    assert after.get("stored") == before.get("stored")
    assert sum(after.values()) == sum(before.values()) + 2
    assert await counted(ground.http, ground.proxy, "nearhit_faults_total", "part") == {}


@shared_loop
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        pytest.param(Script(finish_reason="length"), "length", id="length"),
        pytest.param(Script(finish_reason="content_filter"), "content_filter", id="filter"),
        pytest.param(
            Script(tool_calls=(("find", {}),), finish_reason="tool_calls"),
            "tool_calls",
            id="tool calls",
        ),
        pytest.param(Script(finish_reason="surprise"), "unfinished", id="an unknown end"),
        pytest.param(Script(text=""), "empty", id="empty"),
        pytest.param(Script(text=" \n "), "empty", id="blank"),
    ],
)
async def test_an_answer_that_is_not_a_whole_answer_is_not_stored(
    ground: Ground, script: Script, outcome: str, stream: bool
) -> None:
    question, before = fresh_question(), await ground.admissions()
    ground.upstream.play(script, script)
    for ask_stream in (stream, not stream):
        status, cache, _ = await ground.chat(question, stream=ask_stream)
        assert (status, cache) == (200, MISS)
    after = await ground.admissions_after(before, 2)
    assert after[outcome] == before.get(outcome, 0) + 2
    assert after.get("stored") == before.get("stored")


@shared_loop
@pytest.mark.parametrize("say", WIRES)
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Script(finish_reason="length"), id="length"),
        pytest.param(Script(text=""), id="empty"),
    ],
)
async def test_no_wire_stores_half_answers(ground: Ground, say: Say, script: Script) -> None:
    question = fresh_question()
    ground.upstream.play(script, script)
    assert [await say(ground, question, stream) for stream in (True, False, False)] == [MISS] * 3
    await asyncio.sleep(0.1)
    assert (await say(ground, question, True)).endswith("detail=exact")


@shared_loop
async def test_a_stream_that_ends_early_without_a_sign_is_not_stored(ground: Ground) -> None:
    question, before = fresh_question(), await ground.admissions()
    ground.upstream.play(Script(end_after=4))
    status, cache, told = await ground.chat(question, stream=True)
    assert (status, cache, told.count(b"data:")) == (200, MISS, 4)
    assert (await ground.chat(question))[1] == MISS
    after = await ground.admissions_after(before, 2)
    assert after["unfinished"] == before.get("unfinished", 0) + 1
    assert after["stored"] == before.get("stored", 0) + 1


@shared_loop
async def test_a_stored_answer_that_cannot_be_told_as_a_stream_is_asked_for_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(wire: ChatWire, answer: Any, body: Any) -> Any:
        raise KeyError("text")

    question = fresh_question()
    await ground.chat(question)
    assert await ground.hits(question)
    monkeypatch.setattr(ChatWire, "replay", fail)
    status, cache, told = await ground.chat(question, stream=True)
    assert (status, cache) == (200, MISS)
    assert told.endswith(b"data: [DONE]\n\n")


@shared_loop
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503, 504, 529]
)
async def test_an_error_is_passed_on_byte_for_byte(
    ground: Ground, status: int, stream: bool
) -> None:
    body = b'{ "error" :{"message":"as it was \xc3\xa9","extra":[1.0,  2]} }\n'
    headers = {"X-RateLimit-Left": "0"}
    if status == 429:
        headers["Retry-After"] = "17"  # too long to wait for here
    ground.upstream.play(*[Script(status=status, body=body, headers=headers)] * 2)
    url = f"{ground.proxy.base_url}/chat/completions"
    question = [{"role": "user", "content": fresh_question()}]
    asked = {"model": "m", "messages": question, "stream": stream}
    before = len(ground.upstream.calls)
    tries = 2 if status in (502, 503, 504) else 1
    for repeat in (1, 2) if tries == 1 else (1,):
        async with ground.http.post(url, json=asked) as answer:
            assert (answer.status, await answer.read()) == (status, body)
            assert answer.headers["x-ratelimit-left"] == "0"
            assert answer.headers["cache-status"] == MISS
            assert answer.headers.get("retry-after") == headers.get("Retry-After")
        assert len(ground.upstream.calls) == before + tries * repeat


@shared_loop
@pytest.mark.parametrize(
    ("scripts", "status", "calls"),
    [
        pytest.param(
            [Script(status=429, headers={"Retry-After": "0"})], 200, 2, id="429, then well"
        ),
        pytest.param(
            [Script(status=429, headers={"Retry-After": "0"})] * 2, 429, 2, id="429 for good"
        ),
        pytest.param([Script(status=429)], 429, 1, id="429 without Retry-After"),
        pytest.param([Script(status=503)], 200, 2, id="503, then well"),
        pytest.param([Script(status=503)] * 2, 503, 2, id="503 for good"),
        pytest.param([Script(status=500)], 500, 1, id="500"),
        pytest.param([Script(drop=True)], 502, 1, id="closed without a byte"),
    ],
)
async def test_only_what_cannot_have_run_is_tried_again(
    ground: Ground, scripts: list[Script], status: int, calls: int
) -> None:
    question, before = fresh_question(), len(ground.upstream.calls)
    ground.upstream.play(*scripts)
    assert (await ground.chat(question))[0] == status
    assert len(ground.upstream.calls) == before + calls
    assert await ground.hits(question) is (status == 200)


# -- settings of their own


def spec(stage: Stage, **more: Any) -> dict[str, Any]:
    return {"name": "fake", "base_url": stage.upstream.base_url, "max_retries": 0, **more}


def told_code(told: bytes) -> str:
    error = orjson.loads(told)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    code: str = error["code"]
    return code


async def test_an_upstream_that_is_down_is_a_502_until_it_is_back(stage: Stage) -> None:
    proxy = await stage.proxy(upstreams=[spec(stage)])
    question = fresh_question()
    await stage.upstream.stop()
    for stream in (False, True):
        status, _, told = await chat(stage.http, proxy, question, stream=stream)
        assert (status, told_code(told)) == (502, "upstream_unavailable")
        assert str(stage.upstream.port).encode() not in told
    await stage.upstream.start()
    assert (await chat(stage.http, proxy, question))[:2] == (200, MISS)


async def test_an_upstream_that_knows_no_stream_options_is_asked_without(stage: Stage) -> None:
    unknown = b'{"error":{"message":"Unrecognized request argument supplied: stream_options"}}'

    def refuse(call: Call) -> Script | None:
        wished = "stream_options" in call.body
        return Script(status=400, body=unknown) if wished else Script(text="A.")

    stage.upstream.choose = refuse
    proxy = await stage.proxy()
    for question, calls in (("First?", 2), ("Second?", 3)):
        status, cache, told = await chat(stage.http, proxy, question, stream=True)
        assert (status, cache, told.endswith(b"data: [DONE]\n\n")) == (200, MISS, True)
        assert len(stage.upstream.calls) == calls  # it is told once
    await asyncio.sleep(0.1)
    _, cache, told = await chat(stage.http, proxy, "First?")
    assert cache.startswith("nearhit; hit")
    assert orjson.loads(told)["choices"][0]["message"]["content"] == "A."
    wish = {"include_usage": True}
    answered = await chat(stage.http, proxy, "Third?", stream=True, stream_options=wish)
    assert answered == (400, MISS, unknown)  # the client's own wish


async def test_an_upstream_that_is_slow_to_begin_is_a_504(stage: Stage) -> None:
    slow = spec(stage, first_byte_timeout="150ms", connect_timeout="50ms", max_retries=2)
    proxy = await stage.proxy(upstreams=[slow])
    stage.upstream.play(Script(delay=60), Script(delay=60))
    for serial, stream in enumerate((False, True), 1):
        status, _, told = await chat(stage.http, proxy, fresh_question(), stream=stream)
        assert (status, told_code(told)) == (504, "upstream_timeout")
        await stage.upstream.until(lambda: stage.upstream.cancelled == serial)  # noqa: B023
        assert len(stage.upstream.calls) == serial  # the model may be at work: not asked twice


async def test_a_stream_that_stalls_is_ended_with_an_error(stage: Stage) -> None:
    proxy = await stage.proxy(upstreams=[spec(stage, idle_timeout="200ms")])
    client = stage.openai(proxy)
    stage.upstream.play(Script(hold_after=3))
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": fresh_question()}]}
    with pytest.raises(openai.APIError, match="silent for 0.2 s"):
        async for _ in await client.chat.completions.create(**asked, stream=True):
            pass
    await stage.upstream.until(lambda: stage.upstream.cancelled == 1)
    raw = await client.chat.completions.with_raw_response.create(**asked)
    assert raw.headers["cache-status"] == MISS


async def test_a_fallback_answers_for_an_upstream_that_cannot_and_its_answer_is_stored(
    stage: Stage,
) -> None:
    async with FakeUpstream("other") as other:
        backup = {"name": "other", "base_url": other.base_url, "models": ["spare"]}
        proxy = await stage.proxy(upstreams=[spec(stage, fallback=["other"]), backup])
        for trouble in ("overloaded", "down"):
            if trouble == "down":
                await stage.upstream.stop()
            stage.upstream.default = Script(status=503)
            for stream in (False, True):
                question, before = fresh_question(), len(other.calls)
                status, cache, told = await chat(stage.http, proxy, question, stream=stream)
                assert (status, cache) == (200, MISS)
                assert told.startswith(b"data: " if stream else b"{")
                assert [call.body["model"] for call in other.calls[before:]] == ["m"]
                await asyncio.sleep(0.1)
                assert "hit" in (await chat(stage.http, proxy, question))[1]
        other.default = Script(status=503)
        status, _, told = await chat(stage.http, proxy, fresh_question())
        assert (status, told_code(told)) == (502, "upstream_unavailable")  # the first one's


async def test_when_one_replica_dies_requests_go_on_with_the_other(stage: Stage) -> None:
    async with FakeUpstream("other") as other:
        both = [
            spec(stage, max_retries=1),
            {"name": "other", "base_url": other.base_url, "max_retries": 1},
        ]
        proxy = await stage.proxy(upstreams=both)

        async def ask_ten() -> None:
            asked = [chat(stage.http, proxy, fresh_question()) for _ in range(10)]
            assert {status for status, _, _ in await asyncio.gather(*asked)} == {200}

        await ask_ten()
        assert stage.upstream.calls and other.calls
        first = len(stage.upstream.calls)
        await stage.upstream.stop()
        await ask_ten()
        await ask_ten()
        assert (len(stage.upstream.calls), first + len(other.calls)) == (first, 30)
