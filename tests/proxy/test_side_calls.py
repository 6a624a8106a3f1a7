"""Calls on our own account: as the client's, with nobody else's key, and always paid for."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.answer_text import Tokens
from proxy.auth import Caller
from proxy.call import Call, CallReader, Request
from proxy.rules import InForce
from proxy.side_calls import SideCalls
from proxy.spending import Price, Spending
from proxy.upstream import Upstreams, UpstreamSpec
from proxy.upstream_errors import UpstreamError
from proxy.wire.chat import ChatWire
from store.policy import Policy, PolicyBook
from tests.encodings import rules_of
from tests.fake_upstream import FakeUpstream, Script

QUESTION = [{"role": "user", "content": "is it YES?"}]
PRICE = Price("*", 1_000_000.0, 1_000_000.0)  # 1 a token


def asked(upstream_key: str | None = None, **body: Any) -> Call:
    headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer sk-client")]
    raw = orjson.dumps({"model": "gull-2", "messages": QUESTION, **body})
    request = Request(
        raw=raw, header_list=headers, headers=dict(headers), query_string=b"a=b", request_id="r"
    )
    book = PolicyBook({"default": Policy(name="default")})
    reader = CallReader(InForce(rules_of(book)), {}, lambda model: "fake")
    return reader.read(ChatWire(), request, Caller(tenant="t", upstream_key=upstream_key))


def spec(name: str, model: str, upstream: FakeUpstream, key: str | None) -> UpstreamSpec:
    return UpstreamSpec(
        name=name, models=(model,), base_url=upstream.base_url, api_key=key, max_retries=0
    )


@pytest.mark.parametrize(
    ("judge_key", "tenant_key", "keys_configured", "main", "judge"),
    [
        (None, None, False, "Bearer sk-client", None),
        ("sk-judge", None, False, "Bearer sk-client", "Bearer sk-judge"),
        ("sk-judge", None, True, "Bearer sk-main", "Bearer sk-judge"),
        ("sk-judge", "sk-tenant", True, "Bearer sk-tenant", "Bearer sk-judge"),
    ],
)
async def test_no_key_goes_where_its_owners_calls_do_not(
    judge_key: str | None,
    tenant_key: str | None,
    keys_configured: bool,
    main: str,
    judge: str | None,
) -> None:
    async with FakeUpstream() as one, FakeUpstream() as other:
        specs = [spec("a", "gull-*", one, "sk-main"), spec("b", "judge-*", other, judge_key)]
        async with Upstreams(specs) as upstreams:
            calls = SideCalls(upstreams, Spending([], PRICE, 9.0), keys_configured=keys_configured)
            await calls.again(asked(tenant_key))
            await calls.chat(asked(tenant_key), "gull-9", QUESTION)  # a judge at the same place
            await calls.chat(asked(tenant_key), "judge-1", QUESTION)
        assert [call.headers.get("authorization") for call in one.calls] == [main, main]
        assert [call.headers.get("authorization") for call in other.calls] == [judge]
        assert one.calls[0].target == "/v1/chat/completions?a=b"


@pytest.mark.parametrize(
    ("script", "least"),
    [
        (Script(text="yes it is"), 6),  # 3 tokens in and 3 out, as the upstream says
        (Script(status=500), 20),
        (Script(body=b"<html>" * 50), 100),
        (Script(body=b'{"choices": []}'), 20),
        (Script(drop=True), 20),
    ],
)
async def test_every_call_is_paid_for_whatever_it_brings(script: Script, least: int) -> None:
    paid: list[float] = []

    def pay(cost: float, tokens: Tokens) -> None:
        paid.append(cost)

    async with FakeUpstream() as upstream:
        upstream.default = script
        async with Upstreams([spec("a", "*", upstream, None)]) as upstreams:
            spending = Spending([], PRICE, 1e9)
            calls = SideCalls(upstreams, spending, keys_configured=False, on_cost=pay)
            try:
                await calls.again(asked())
            except UpstreamError:
                assert script.text is None
            assert paid == [calls.spent]
            assert paid[0] >= least
    assert not calls.exhausted


@pytest.mark.parametrize(
    ("finish", "said"),
    [("stop", "Score: 3"), ("length", None), ("content_filter", None), (None, None)],
)
async def test_what_was_cut_off_is_no_verdict_and_no_better_example(
    finish: str | None, said: str | None
) -> None:
    message = {"role": "assistant", "content": "Score: 3"}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    async with FakeUpstream() as upstream:
        upstream.default = Script(body=orjson.dumps({"choices": [choice]}))
        async with Upstreams([spec("a", "*", upstream, None)]) as upstreams:
            calls = SideCalls(upstreams, Spending([], PRICE, 1e9), keys_configured=False)
            assert await calls.chat(None, "gull-9", QUESTION) == said


async def test_a_stream_is_asked_again_as_json_and_all_else_stays() -> None:
    async with FakeUpstream() as upstream:
        async with Upstreams([spec("a", "*", upstream, None)]) as upstreams:
            calls = SideCalls(upstreams, Spending([], PRICE, 9.0), keys_configured=False)
            more: dict[str, Any] = {"stream": True, "stream_options": {}, "seed": 7, "user": "u"}
            assert await calls.again(asked(**more)) == "Answer 1 to: is it YES?"
        body = upstream.calls[0].body
        assert body == {"model": "gull-2", "messages": QUESTION, "seed": 7, "user": "u"}
