"""The real litellm against a real server that speaks Anthropic's wire."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.headers import Credential
from proxy.providers import serves
from proxy.upstream import (
    UpstreamBroken,
    UpstreamCall,
    UpstreamError,
    Upstreams,
    UpstreamSpec,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tests.fake_upstream import FakeUpstream, Script

pytestmark = [
    pytest.mark.slow,  # importing litellm takes seconds
    pytest.mark.filterwarnings("ignore:Item .* on TypedDict class:UserWarning"),  # litellm's types
]

LIMIT = 1_000_000
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


def spec(fake: FakeUpstream, **more: Any) -> UpstreamSpec:
    settings: dict[str, Any] = {
        "name": "claude",
        "provider": "anthropic",
        "models": ("*",),
        "base_url": fake.base_url.removesuffix("/v1"),
        "api_key": "own-key",
        "max_retries": 0,
    }
    return UpstreamSpec(**(settings | more))


def call(path: str = "/chat/completions", **body: Any) -> UpstreamCall:
    if path == "/chat/completions":
        body.setdefault("messages", [{"role": "user", "content": "hello there"}])
    body = {"model": "claude-sonnet-4-5"} | body
    return UpstreamCall(
        method="POST",
        path=path,
        headers=[("content-type", "application/json")],
        body=json.dumps(body).encode(),
        model=body["model"],
        credential=Credential((("authorization", "Bearer client-key"),), None, True),
    )


async def asked(upstreams: Upstreams, made: UpstreamCall) -> tuple[int, Any]:
    async with await upstreams.open(made) as answer:
        assert dict(answer.headers)[b"content-type"] == b"application/json"
        return answer.status, json.loads(await answer.read(LIMIT))


async def events(upstreams: Upstreams, made: UpstreamCall) -> list[Any]:
    """Return the events of a stream, which must end as OpenAI's do."""
    async with await upstreams.open(made) as answer:
        assert dict(answer.headers)[b"content-type"].startswith(b"text/event-stream")
        raw = b"".join([chunk async for chunk in answer.chunks()])
    *data, done, rest = raw.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(each.removeprefix(b"data: ")) for each in data]


def test_importing_this_imports_no_litellm() -> None:
    code = "import sys, proxy.upstream, proxy.providers; print('litellm' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


async def test_without_litellm_the_message_says_what_to_install(
    fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.providers._litellm", None)
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(UpstreamUnavailable, match=r"pip install .nearhit\[providers\]"):
        async with Upstreams([spec(fake)]):
            pass


# -- chat


async def test_a_chat_answer_is_in_openais_wire(fake: FakeUpstream) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        status, answer = await asked(upstreams, call(temperature=0.5, max_tokens=9))
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "claude-sonnet-4-5"
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == "Answer 1 to: hello there"
    assert answer["usage"]["prompt_tokens"] == 2
    assert answer["usage"]["total_tokens"] == 7


async def test_what_the_provider_is_asked(fake: FakeUpstream) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello there"},
    ]
    made = call(messages=messages, temperature=0.5, max_tokens=9, metadata={"a": "b"}, store=True)
    async with Upstreams([spec(fake)]) as upstreams:
        await asked(upstreams, made)
    [arrived] = fake.calls
    assert arrived.path == "/v1/messages"
    assert arrived.headers["x-api-key"] == "own-key"
    assert "client-key" not in str(arrived.headers)
    assert arrived.body["model"] == "claude-sonnet-4-5"
    assert arrived.body["temperature"] == 0.5
    assert arrived.body["max_tokens"] == 9
    assert arrived.body["system"][0]["text"] == "Be brief."
    assert not arrived.body.keys() - {"model", "messages", "system", "temperature", "max_tokens"}


async def test_a_chat_stream_is_in_openais_wire(fake: FakeUpstream) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        chunks = await events(upstreams, call(stream=True))
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == "Answer 1 to: hello there"
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert finishes == [None] * (len(chunks) - 1) + ["stop"]


async def test_usage_comes_last_when_it_is_asked_for(fake: FakeUpstream) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        made = call(stream=True, stream_options={"include_usage": True})
        chunks = await events(upstreams, made)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 7
    assert not any("usage" in chunk for chunk in chunks[:-1])


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls_survive(fake: FakeUpstream, stream: bool) -> None:
    fake.play(Script(tool_calls=(("add", {"a": 1}),), finish_reason="tool_calls"))
    async with Upstreams([spec(fake)]) as upstreams:
        made = call(tools=[TOOL], stream=stream)
        if stream:
            chunks = await events(upstreams, made)
            deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
            parts = [part for delta in deltas for part in delta.get("tool_calls", [])]
            name = parts[0]["function"]["name"]
            arguments = "".join(part["function"].get("arguments", "") for part in parts)
            finish = chunks[-1]["choices"][0]["finish_reason"]
        else:
            _, answer = await asked(upstreams, made)
            [choice] = answer["choices"]
            assert choice["message"]["content"] is None
            function = choice["message"]["tool_calls"][0]["function"]
            name, arguments, finish = (
                function["name"],
                function["arguments"],
                choice["finish_reason"],
            )
    assert (name, json.loads(arguments), finish) == ("add", {"a": 1}, "tool_calls")


async def test_a_cut_answer_says_length(fake: FakeUpstream) -> None:
    fake.play(Script(finish_reason="length"))
    async with Upstreams([spec(fake)]) as upstreams:
        _, answer = await asked(upstreams, call())
    assert answer["choices"][0]["finish_reason"] == "length"


# -- completions


async def test_a_text_completion(fake: FakeUpstream) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        status, answer = await asked(upstreams, call("/completions", prompt="hello there"))
    assert (status, answer["object"]) == (200, "text_completion")
    assert answer["choices"][0]["text"] == "Answer 1 to: hello there"
    assert answer["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("usage", [False, True])
async def test_a_text_completion_as_a_stream(fake: FakeUpstream, usage: bool) -> None:
    made = call(
        "/completions", prompt="hello there", stream=True, stream_options={"include_usage": usage}
    )
    async with Upstreams([spec(fake)]) as upstreams:
        chunks = await events(upstreams, made)
    assert chunks[0]["choices"][0]["text"] == "Answer 1 to: hello there"
    assert chunks[0]["choices"][0]["finish_reason"] == "stop"
    assert [chunk["usage"]["total_tokens"] for chunk in chunks[1:]] == ([7] if usage else [])
    assert not fake.calls[0].body.get("stream")


# -- Anthropic's own wire


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropics_own_wire_is_not_translated(fake: FakeUpstream, stream: bool) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stream": stream}
    made = call("/messages?beta=true", **body)
    async with Upstreams([spec(fake)]) as upstreams:
        async with await upstreams.open(made) as answer:
            raw = await answer.read(LIMIT)
    assert (b"event: message_stop" in raw) == stream
    assert b'"type": "message' in raw
    [arrived] = fake.calls
    assert arrived.target == "/v1/messages?beta=true"
    assert bytes(arrived.raw) == made.body
    assert arrived.headers["x-api-key"] == "own-key"
    assert arrived.headers["anthropic-version"] == "2023-06-01"
    assert "Authorization" not in arrived.headers


async def test_a_client_of_its_own_credentials_keeps_them_and_its_version(
    fake: FakeUpstream,
) -> None:
    made = call("/messages/count_tokens", messages=[])
    made.headers.append(("anthropic-version", "2024-01-01"))
    made.credential = Credential((("authorization", "Bearer mine"),), None, False)
    async with Upstreams([spec(fake)]) as upstreams, await upstreams.open(made) as answer:
        await answer.read(LIMIT)
    headers = fake.calls[0].headers
    assert (headers["Authorization"], headers["anthropic-version"]) == ("Bearer mine", "2024-01-01")
    assert "x-api-key" not in headers


# -- what is refused


@pytest.mark.parametrize("path", ["/responses", "/files", "/audio/speech", "/messagesx"])
async def test_a_route_that_cannot_be_translated_is_a_clear_404(
    fake: FakeUpstream, path: str
) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        status, answer = await asked(upstreams, call(path, input="hi"))
    assert status == 404
    message = f"upstream claude (anthropic) does not serve /v1{path}"
    assert answer["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": "route_not_supported",
    }
    assert not fake.calls


@pytest.mark.parametrize(
    ("provider", "path", "asked"),
    [
        (None, "/anything", True),
        ("mistral", "/chat/completions?a=b", True),
        ("mistral", "/responses", False),
        ("mistral", "/messages", False),
        ("anthropic", "/messages", True),
        ("anthropic", "/messages/count_tokens", True),
        ("anthropic", "/responses", False),
    ],
)
def test_an_upstream_is_asked_only_what_it_is_known_to_serve(
    provider: str | None, path: str, asked: bool
) -> None:
    assert serves(UpstreamSpec(name="u", models=("*",), provider=provider), path) is asked


async def test_a_provider_steps_in_only_where_it_can_answer(fake: FakeUpstream) -> None:
    async with FakeUpstream("down") as down:
        down.default = Script(status=503, body=b"{}")
        first = UpstreamSpec(
            name="down",
            models=("claude*",),
            fallback=("claude",),
            base_url=down.base_url,
            max_retries=0,
        )
        async with Upstreams([first, spec(fake)]) as upstreams:
            async with await upstreams.open(call("/responses", input="hi")) as answer:
                assert (answer.upstream, answer.status) == ("down", 503)
            assert (await asked(upstreams, call()))[0] == 200
    assert len(fake.calls) == 1


@pytest.mark.parametrize(
    "field", ["api_base", "base_url", "api_key", "extra_headers", "mock_response", "fallbacks"]
)
async def test_a_client_cannot_steer_litellm(fake: FakeUpstream, field: str) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        status, answer = await asked(upstreams, call(**{field: "http://evil.invalid"}))
    assert (status, answer["error"]["param"]) == (400, field)
    assert not fake.calls


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}", b'{"model": 7}', None])
async def test_a_body_that_names_no_model_is_a_400(fake: FakeUpstream, raw: bytes | None) -> None:
    made = call()
    made.body = raw
    async with Upstreams([spec(fake)]) as upstreams:
        status, answer = await asked(upstreams, made)
    assert (status, answer["error"]["code"]) == (400, "invalid_json")


async def test_a_model_name_cannot_choose_another_provider(fake: FakeUpstream) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        status, _ = await asked(upstreams, call(model="openai/gpt-4o"))
    assert status == 200
    assert [arrived.path for arrived in fake.calls] == ["/v1/messages"]


async def test_an_image_url_cannot_reach_into_our_network(fake: FakeUpstream) -> None:
    image = {"type": "image_url", "image_url": {"url": fake.base_url + "/secret.png"}}
    async with Upstreams([spec(fake)]) as upstreams:
        made = call(messages=[{"role": "user", "content": [image]}])
        status, _ = await asked(upstreams, made)
    assert status == 400
    assert not fake.calls


async def test_a_parameter_that_the_provider_lacks_is_refused_and_not_dropped(
    fake: FakeUpstream,
) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        status, answer = await asked(upstreams, call(logit_bias={"1": 1}))
    assert status == 400
    assert answer["error"]["message"].startswith("anthropic does not support parameters")
    assert not fake.calls


async def test_embeddings_that_the_provider_lacks_are_refused(fake: FakeUpstream) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        status, answer = await asked(upstreams, call("/embeddings", input=["hi"]))
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


async def test_embeddings_of_a_provider_that_has_them(fake: FakeUpstream) -> None:
    made = call("/embeddings", model="mistral-embed", input=["hi", "ho"])
    async with Upstreams([spec(fake, provider="mistral", base_url=fake.base_url)]) as upstreams:
        status, answer = await asked(upstreams, made)
    assert status == 200
    assert [len(each["embedding"]) for each in answer["data"]] == [8, 8]
    assert fake.calls[0].headers["Authorization"] == "Bearer own-key"


# -- failures


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "invalid_request_error"), (429, "invalid_request_error")]
    + [(500, "server_error"), (503, "server_error")],
)
async def test_the_providers_errors_keep_status_and_words(
    fake: FakeUpstream, status: int, kind: str
) -> None:
    fake.default = Script(status=status, headers={"Retry-After": "77"})
    async with Upstreams([spec(fake, max_retries=2)]) as upstreams:
        async with await upstreams.open(call()) as answer:
            told = json.loads(await answer.read(LIMIT))["error"]
    assert answer.status == status
    assert told == {
        "message": f"scripted {status} of call 1",
        "type": kind,
        "param": None,
        "code": None,
    }
    assert (b"retry-after", b"77") in answer.headers
    assert len(fake.calls) == 1


async def test_an_overloaded_provider_is_tried_again_by_us_and_not_by_litellm(
    fake: FakeUpstream,
) -> None:
    fake.play(Script(status=503))
    async with Upstreams([spec(fake, max_retries=1)]) as upstreams:
        status, _ = await asked(upstreams, call())
    assert (status, len(fake.calls)) == (200, 2)


async def failure(upstreams: Upstreams, made: UpstreamCall) -> UpstreamError:
    with pytest.raises(UpstreamError) as failed:
        async with await upstreams.open(made) as answer:
            async for chunk in answer.chunks():
                assert b'"finish_reason":"stop"' not in chunk
                assert b"[DONE]" not in chunk
    assert "127.0.0.1" not in str(failed.value)
    assert "upstream claude" in str(failed.value)
    [member] = upstreams.route(None).members
    assert member.in_flight == 0
    return failed.value


async def test_a_provider_that_is_down(fake: FakeUpstream) -> None:
    await fake.stop()
    async with Upstreams([spec(fake)]) as upstreams:
        assert isinstance(await failure(upstreams, call()), UpstreamUnavailable)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        pytest.param(Script(drop=True), UpstreamBroken, id="no answer"),
        pytest.param(Script(body=b"<html>"), UpstreamBroken, id="garbage"),
        pytest.param(Script(delay=9), UpstreamTimeout, id="late"),
    ],
)
async def test_an_answer_that_fails(
    fake: FakeUpstream, script: Script, kind: type[UpstreamError]
) -> None:
    fake.play(script)
    async with Upstreams([spec(fake, first_byte_timeout=0.5)]) as upstreams:
        assert isinstance(await failure(upstreams, call()), kind)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        pytest.param(Script(cut_after=5), UpstreamBroken, id="cut"),
        pytest.param(Script(end_after=5), UpstreamBroken, id="ended as if that were all"),
        pytest.param(Script(error_after=5), UpstreamBroken, id="an error inside"),
        pytest.param(Script(hold_after=5), UpstreamTimeout, id="silent"),
    ],
)
async def test_a_stream_that_does_not_end_well_never_looks_as_if_it_had(
    fake: FakeUpstream, script: Script, kind: type[UpstreamError]
) -> None:
    fake.play(script)
    async with Upstreams([spec(fake, idle_timeout=0.5)]) as upstreams:
        assert isinstance(await failure(upstreams, call(stream=True)), kind)


async def test_hanging_up_cancels_the_providers_stream(fake: FakeUpstream) -> None:
    fake.default = Script(endless=True, token_delay=0.001)
    async with Upstreams([spec(fake)]) as upstreams:
        async with await upstreams.open(call(stream=True)) as answer:
            async for _ in answer.chunks():
                break
        await fake.until(lambda: fake.cancelled == 1)


async def test_hanging_up_before_the_answer_cancels_the_call(fake: FakeUpstream) -> None:
    fake.default = Script(delay=30)
    async with Upstreams([spec(fake)]) as upstreams:
        task = asyncio.create_task(upstreams.open(call()))
        await fake.until(lambda: fake.open_now == 1)
        task.cancel()
        await fake.until(lambda: fake.cancelled == 1)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_event_loop_runs_while_litellm_is_imported() -> None:
    code = """
import asyncio, time
from proxy import providers

async def main():
    longest, start = 0.0, time.monotonic()
    importing = asyncio.create_task(providers.load())
    while not importing.done():
        began = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - began)
    print(longest / (time.monotonic() - start))

asyncio.run(main())
"""
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert float(ran.stdout) < 0.5  # the longest pause, as a part of the import's time
