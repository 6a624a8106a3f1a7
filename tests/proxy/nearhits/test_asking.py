"""A small model answers as the client asked for it, with nobody's key who does not call there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest

from proxy.answer import Answer, Streamed
from proxy.auth import ApiKey, Keyring
from proxy.call import Call
from proxy.nearhits.asking import Asking, Unfit
from proxy.upstream import Upstreams, UpstreamSpec
from proxy.upstream_errors import UpstreamError, UpstreamTimeout
from tests.fake_upstream import FakeUpstream, Script
from tests.harness import digest
from tests.proxy.nearhits.calls import ASKED, call_of

CLIENT = {b"authorization": b"Bearer sk-client", b"content-type": b"application/json"}
PATIENCE = 30.0  # seconds: as long as a slow machine may take
JSON_MODE = [
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
]


def spec(name: str, model: str, upstream: FakeUpstream, key: str | None = None) -> UpstreamSpec:
    return UpstreamSpec(
        name=name, models=(model,), base_url=upstream.base_url, api_key=key, max_retries=0
    )


def as_asked(call: Call) -> dict[str, Any]:
    return {**call.body, "model": "small"}


async def asked(
    script: Script,
    *,
    body: Mapping[str, Any] | None = None,
    sent: Callable[[Call], dict[str, Any]] = as_asked,
    patience: float = PATIENCE,
) -> tuple[Answer, bytes, list[Any], FakeUpstream]:
    """Have a small model answer so; return the answer, its body, what was told, and the fake."""
    told: list[Any] = []
    async with FakeUpstream() as upstream:
        upstream.default = script
        async with Upstreams([spec("a", "*", upstream)]) as upstreams:
            call = call_of(headers=CLIENT, body=body)
            answer = await Asking(upstreams, Keyring(())).ask(
                call,
                "small",
                sent(call),
                lambda raw: told.append(orjson.loads(raw)),
                patience=patience,
            )
            return answer, await whole(answer), told, upstream


async def whole(answer: Answer) -> bytes:
    if not isinstance(answer.body, Streamed):
        return answer.body
    async with answer.body as streamed:
        return b"".join([chunk async for chunk in streamed.chunks])


async def test_an_answer_is_the_small_model_s_own_and_told_whole() -> None:
    answer, body, told, upstream = await asked(Script(text="With oil."))
    assert orjson.loads(body)["model"] == "small"
    assert [orjson.loads(body)] == told
    assert dict(answer.headers)[b"cache-status"] == b"nearhit; fwd=miss; detail=near-hit"
    (call,) = upstream.calls
    assert (call.path, call.body["model"]) == ("/v1/chat/completions", "small")
    assert call.body["messages"] == [{"role": "user", "content": ASKED}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", JSON_MODE)
@pytest.mark.parametrize("text", ["", "With oil.", '{"a": ', '{"a": 1} and so on'])
async def test_where_json_was_asked_for_anything_else_is_unfit(
    form: Any, text: str, stream: bool
) -> None:
    with pytest.raises(Unfit):
        await asked(Script(text=text), body={"response_format": form, "stream": stream})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["42", "null", '"With oil."', "true", '[{"a": 1}]'])
async def test_where_an_object_was_asked_for_other_json_is_unfit(text: str, stream: bool) -> None:
    with pytest.raises(Unfit):
        await asked(Script(text=text), body={"response_format": JSON_MODE[0], "stream": stream})
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}
    schema = {"response_format": form, "stream": stream}
    _, _, told, _ = await asked(Script(text=text), body=schema)  # which may ask for any of them
    assert len(told) == 1


@pytest.mark.parametrize("script", [{"cut_after": 2}, {"end_after": 2}, {"error_after": 2}])
async def test_a_stream_of_json_that_breaks_off_is_never_seen(script: dict[str, Any]) -> None:
    broken = Script(text='{"a": "one two three"}', token_delay=0.02, **script)
    with pytest.raises((UpstreamError, Unfit)):
        await asked(broken, body={"response_format": JSON_MODE[0], "stream": True})


async def test_a_stream_of_json_goes_out_unchanged_once_it_is_known_to_be_one() -> None:
    script = Script(text='{"a": "one two three"}')
    _, plain, _, _ = await asked(script, body={"stream": True})
    _, body, told, _ = await asked(script, body={"response_format": JSON_MODE[0], "stream": True})
    assert body == plain
    assert len(told) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["42", '{"crown": 1}', '{"price": "low"}'])
async def test_json_that_breaks_the_schema_that_was_asked_for_is_unfit(
    text: str, stream: bool
) -> None:
    schema = {"properties": {"price": {"type": "number"}}, "required": ["price"], "type": "object"}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    with pytest.raises(Unfit):
        await asked(Script(text=text), body={"response_format": form, "stream": stream})
    await asked(Script(text='{"price": 2.5}'), body={"response_format": form, "stream": stream})


@pytest.mark.parametrize("form", [*JSON_MODE, {"type": "text"}, None, "json_object"])
async def test_json_where_json_was_asked_for_is_fit(form: Any) -> None:
    _, body, told, upstream = await asked(Script(text='{"a": 1}'), body={"response_format": form})
    assert len(told) == 1
    assert upstream.calls[0].body["response_format"] == form


def with_example(call: Call) -> dict[str, Any]:
    """Return what the small model gets: an example with a placeholder in its question, too."""
    turns = [
        {"role": "user", "content": "Where does <EMAIL> live?"},
        {"role": "assistant", "content": "In Lyon."},
    ]
    return {**call.body, "model": "small", "messages": turns + call.body["messages"]}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_repeats_a_placeholder_of_an_example_is_unfit(stream: bool) -> None:
    said = Script(text="Write to <EMAIL> there.")
    with pytest.raises(Unfit):
        await asked(said, body={"stream": stream}, sent=with_example)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["Write to them.", "As <b> or <PHONE>."])
async def test_whatever_else_it_says_beside_such_an_example_is_fit(stream: bool, text: str) -> None:
    _, body, told, _ = await asked(Script(text=text), body={"stream": stream}, sent=with_example)
    assert told[0]["choices"][0]["message"]["content"] == text
    assert body


async def test_a_placeholder_that_the_client_has_written_may_be_said() -> None:
    turns = [{"role": "user", "content": "What does <EMAIL> stand for?"}]
    said = Script(text="<EMAIL> is a placeholder.")
    _, _, told, _ = await asked(said, body={"messages": turns}, sent=with_example)
    assert len(told) == 1


@pytest.mark.parametrize(
    "script",
    [
        Script(body=b"<html>"),
        Script(body=b"[]"),
        Script(body=b"null"),
        Script(body=b'{"choices": []}'),
        Script(text=""),
        Script(finish_reason="length"),
        Script(finish_reason="content_filter"),
        Script(tool_calls=(("f", {}),)),
    ],
)
async def test_what_is_no_whole_answer_is_unfit(script: Script) -> None:
    with pytest.raises(Unfit):
        await asked(script)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("script", [Script(status=500), Script(drop=True), Script(status=404)])
async def test_a_small_model_that_fails_raises_before_anything_is_sent(
    script: Script, stream: bool
) -> None:
    with pytest.raises((UpstreamError, Unfit)):
        await asked(script, body={"stream": stream})


@pytest.mark.parametrize(
    ("script", "stream"),
    [(Script(delay=30), False), (Script(delay=30), True), (Script(hold_after=0), True)],
    ids=["no answer", "no stream", "a stream that does not begin"],
)
async def test_a_small_model_that_hangs_is_waited_for_only_so_long(
    script: Script, stream: bool
) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(UpstreamTimeout):
            await asked(script, body={"stream": stream}, patience=0.1)


async def test_a_stream_that_has_begun_may_take_its_time() -> None:
    script = Script(text="one two three four five", token_delay=0.1)
    _, body, told, _ = await asked(script, body={"stream": True}, patience=0.4)
    assert body.endswith(b"data: [DONE]\n\n")
    assert len(told) == 1


async def test_an_answer_that_is_cut_off_raises() -> None:
    with pytest.raises((UpstreamError, Unfit)):
        await asked(Script(text="With oil.", cut_after=40))


async def test_a_stream_is_passed_on_and_told_as_json() -> None:
    _, body, told, _ = await asked(Script(text="With some oil."), body={"stream": True})
    assert body.endswith(b"data: [DONE]\n\n")
    assert told[0]["choices"][0]["message"]["content"] == "With some oil."


@pytest.mark.parametrize(
    "script", [Script(end_after=0), Script(cut_after=0), Script(error_after=0)]
)
async def test_a_stream_that_says_nothing_raises_before_anything_is_sent(script: Script) -> None:
    with pytest.raises((UpstreamError, Unfit)):
        await asked(script, body={"stream": True})


async def test_json_instead_of_a_stream_is_unfit() -> None:
    script = Script(body=b'{"choices": []}')
    with pytest.raises(Unfit):
        await asked(script, body={"stream": True})


async def test_a_stream_that_breaks_off_ends_with_an_error_and_is_not_told() -> None:
    script = Script(text="With some oil on it.", cut_after=2)
    _, body, told, _ = await asked(script, body={"stream": True})
    events = [line for line in body.split(b"\n\n") if line]
    assert "error" in orjson.loads(events[-1].removeprefix(b"data: "))
    assert b"[DONE]" not in body
    assert told == []


@pytest.mark.parametrize("script", [{"end_after": 3}, {"error_after": 3}])
async def test_a_stream_that_ends_too_early_is_not_told(script: dict[str, Any]) -> None:
    slow = Script(text="one two three", token_delay=0.02, **script)  # event by event
    _, _, told, _ = await asked(slow, body={"stream": True})
    assert told == []


KEYS = Keyring((ApiKey(sha256=digest("sk-client"), tenant="harbour"),))


@pytest.mark.parametrize(
    ("keyring", "tenant_key", "small_key", "together", "apart"),
    [
        (Keyring(()), None, None, "Bearer sk-client", None),
        (Keyring(()), None, "sk-small", "Bearer sk-client", "Bearer sk-small"),
        (KEYS, None, "sk-small", "Bearer sk-main", "Bearer sk-small"),
        (KEYS, None, None, "Bearer sk-main", None),
        (KEYS, "sk-tenant", "sk-small", "Bearer sk-tenant", "Bearer sk-small"),
        (KEYS, "sk-tenant", None, "Bearer sk-tenant", None),
    ],
)
async def test_a_key_goes_only_where_its_owner_s_own_calls_go(
    keyring: Keyring,
    tenant_key: str | None,
    small_key: str | None,
    together: str,
    apart: str | None,
) -> None:
    async with FakeUpstream() as one, FakeUpstream() as other:
        specs = [spec("a", "large*", one, "sk-main"), spec("b", "small", other, small_key)]
        async with Upstreams(specs) as upstreams:
            asking = Asking(upstreams, keyring)
            for small in ("large-mini", "small"):
                call = call_of(headers=CLIENT, upstream_key=tenant_key)
                sent = {**call.body, "model": small}
                await asking.ask(call, small, sent, lambda raw: None, patience=PATIENCE)
        assert [call.headers.get("authorization") for call in one.calls] == [together]
        assert [call.headers.get("authorization") for call in other.calls] == [apart]


@pytest.mark.parametrize("name", [b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie"])
async def test_no_other_secret_of_the_client_s_goes_to_another_upstream(name: bytes) -> None:
    async with FakeUpstream() as one, FakeUpstream() as other:
        specs = [spec("a", "large", one), spec("b", "small", other)]
        async with Upstreams(specs) as upstreams:
            call = call_of(headers={name: b"hush", b"content-type": b"application/json"})
            asking = Asking(upstreams, Keyring(()))
            await asking.ask(call, "small", as_asked(call), lambda raw: None, patience=PATIENCE)
        assert "hush" not in str(other.calls[0].headers)


async def test_the_client_s_idempotency_key_is_left_for_the_requested_model() -> None:
    """An upstream that knows the key would give the requested model's call this answer again."""
    async with FakeUpstream() as upstream, Upstreams([spec("a", "*", upstream)]) as upstreams:
        call = call_of(headers={**CLIENT, b"idempotency-key": b"once"})
        asking = Asking(upstreams, Keyring(()))
        await asking.ask(call, "small", as_asked(call), lambda raw: None, patience=PATIENCE)
    assert "idempotency-key" not in upstream.calls[0].headers
