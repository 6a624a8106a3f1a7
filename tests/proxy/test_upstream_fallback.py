"""Other upstreams step in when a group cannot answer, and only then: against real servers."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.headers import Credential
from proxy.upstream import (
    CallFacts,
    UpstreamBroken,
    UpstreamCall,
    Upstreams,
    UpstreamSpec,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tests.fake_upstream import FakeUpstream, Script

pytestmark = pytest.mark.serial

LIMIT = 1_000_000
Fakes = tuple[FakeUpstream, FakeUpstream, FakeUpstream]


@pytest.fixture
async def fakes() -> AsyncIterator[Fakes]:
    async with FakeUpstream("a") as a, FakeUpstream("b") as b, FakeUpstream("c") as c:
        yield a, b, c


def spec(fake: FakeUpstream | str, *fallback: str, name: str = "", **more: Any) -> UpstreamSpec:
    """An upstream that serves the models that begin with its name."""
    base_url = fake if isinstance(fake, str) else fake.base_url
    name = name or (fake.name if isinstance(fake, FakeUpstream) else "a")
    settings: dict[str, Any] = {"models": (f"{name}*",), "base_url": base_url, "max_retries": 0}
    return UpstreamSpec(name=name, fallback=fallback, **(settings | more))


def call(model: str | None = "a-large", *, stream: bool = False, **more: Any) -> UpstreamCall:
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    settings: dict[str, Any] = {
        "method": "POST",
        "path": "/chat/completions",
        "headers": [("content-type", "application/json")],
        "body": json.dumps(asked).encode(),
        "model": model,
    }
    return UpstreamCall(**(settings | more))


async def brought(upstreams: Upstreams, made: UpstreamCall | None = None) -> tuple[str, int]:
    """Return which upstream answered, and with what status."""
    async with await upstreams.open(made or call()) as answer:
        await answer.read(LIMIT)
        return answer.upstream, answer.status


def idle(upstreams: Upstreams) -> bool:
    return all(group.in_flight == 0 for group in upstreams.groups)


def refusing_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/v1"


def eject(upstreams: Upstreams, model: str, until: float) -> None:
    for member in upstreams.route(model).members:
        member.failures, member.ejections, member.ejected_until = 3, 1, until


# -- when a call goes elsewhere


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Script(status=429), id="429"),
        pytest.param(Script(status=429, headers={"Retry-After": "60"}), id="429 too far away"),
        pytest.param(Script(status=502), id="502"),
        pytest.param(Script(status=503), id="503"),
        pytest.param(Script(status=504), id="504"),
        pytest.param(Script(delay=5), id="late"),
    ],
)
async def test_a_group_that_cannot_answer_leaves_the_call_to_its_fallback(
    fakes: Fakes, script: Script
) -> None:
    a, b, _ = fakes
    a.default = script
    limited = spec(a, "b", connect_timeout=0.1, first_byte_timeout=0.2)
    async with Upstreams([limited, spec(b)]) as upstreams:
        assert await brought(upstreams) == ("b", 200)
        assert idle(upstreams)
    [tried], [answered] = a.calls, b.calls
    assert bytes(answered.raw) == bytes(tried.raw)
    assert answered.body["model"] == "a-large"


async def test_an_upstream_that_is_down_leaves_the_call_to_its_fallback(fakes: Fakes) -> None:
    async with Upstreams([spec(refusing_url(), "b"), spec(fakes[1])]) as upstreams:
        assert await brought(upstreams) == ("b", 200)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 408, 422, 500, 501, 529])
async def test_any_other_status_is_final(fakes: Fakes, status: int) -> None:
    a, b, _ = fakes
    a.default = Script(status=status, body=b"as it is")
    async with Upstreams([spec(a, "b"), spec(b)]) as upstreams:
        async with await upstreams.open(call()) as answer:
            assert (answer.status, await answer.read(LIMIT)) == (status, b"as it is")
    assert (len(a.calls), len(b.calls)) == (1, 0)


@pytest.mark.parametrize(
    ("script", "stream"),
    [
        pytest.param(Script(drop=True), False, id="closed without an answer"),
        pytest.param(Script(cut_after=20), False, id="JSON cut"),
        pytest.param(Script(cut_after=0), True, id="stream cut before its first event"),
        pytest.param(Script(cut_after=2), True, id="stream cut"),
    ],
)
async def test_what_may_have_reached_a_model_and_broke_is_not_asked_elsewhere(
    fakes: Fakes, script: Script, stream: bool
) -> None:
    a, b, _ = fakes
    a.default = script
    async with Upstreams([spec(a, "b", max_retries=2), spec(b)]) as upstreams:
        with pytest.raises(UpstreamBroken, match="upstream a"):
            await brought(upstreams, call(stream=stream))
        assert idle(upstreams)
    assert (len(a.calls), len(b.calls)) == (1, 0)


async def test_a_stream_that_falls_silent_is_not_asked_elsewhere(fakes: Fakes) -> None:
    a, b, _ = fakes
    a.default = Script(hold_after=2)
    async with Upstreams([spec(a, "b", idle_timeout=0.2), spec(b)]) as upstreams:
        with pytest.raises(UpstreamTimeout, match="silent"):
            await brought(upstreams, call(stream=True))
    assert not b.calls


async def test_the_groups_own_tries_come_first(fakes: Fakes) -> None:
    a, b, _ = fakes
    a.play(Script(status=503), Script())
    a.default = Script(status=503)
    async with Upstreams([spec(a, "b", max_retries=1), spec(b)]) as upstreams:
        assert await brought(upstreams) == ("a", 200)
        assert await brought(upstreams) == ("b", 200)
    assert (len(a.calls), len(b.calls)) == (4, 1)


async def test_a_fallback_streams_as_it_would_for_its_own_models(fakes: Fakes) -> None:
    a, b, _ = fakes
    a.default, b.default = Script(status=503), Script(hold_after=3)
    async with Upstreams([spec(a, "b"), spec(b)]) as upstreams:
        async with await upstreams.open(call(stream=True)) as answer:
            received = b""
            async for chunk in answer.chunks():
                received += chunk
                if received.count(b"data: ") == 3:
                    b.release.set()
        assert received.endswith(b"data: [DONE]\n\n")
        assert idle(upstreams)


async def test_a_body_that_is_there_once_only_is_sent_once(fakes: Fakes) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"abc"

    a, b, _ = fakes
    a.default = Script(status=503)
    async with Upstreams([spec(a, "b"), spec(b)]) as upstreams:
        assert await brought(upstreams, call(body=body())) == ("a", 503)
    assert (len(a.calls), len(b.calls)) == (1, 0)


async def test_a_call_that_names_no_model_stays_where_its_objects_are(fakes: Fakes) -> None:
    a, b, _ = fakes
    a.default = Script(status=503)
    async with Upstreams([spec(a, "b"), spec(b)]) as upstreams:
        made = UpstreamCall(method="GET", path="/files/file-1", headers=[])
        assert await brought(upstreams, made) == ("a", 503)
    assert not b.calls


async def test_the_list_of_models_is_asked_of_each_and_of_nobody_instead(fakes: Fakes) -> None:
    a, b, _ = fakes
    a.default, b.default = Script(body=b"down", status=503), Script(body=b'{"data": []}')
    async with Upstreams([spec(a, "b"), spec(b)]) as upstreams:
        assert (await upstreams.models())["data"] == []
    assert (len(a.calls), len(b.calls)) == (1, 1)


async def test_each_upstream_gets_its_own_key(fakes: Fakes) -> None:
    a, b, _ = fakes
    a.default = Script(status=503)
    made = call(credential=Credential((("authorization", "Bearer ours"),), None, True))
    async with Upstreams([spec(a, "b", api_key="key-a"), spec(b, api_key="key-b")]) as upstreams:
        await brought(upstreams, made)
    sent = [each.calls[0].headers["Authorization"] for each in (a, b)]
    assert sent == ["Bearer key-a", "Bearer key-b"]


# -- in which order, and what is told when nobody can


async def test_fallbacks_are_asked_in_their_order_until_one_can_answer(fakes: Fakes) -> None:
    a, b, c = fakes
    a.default = c.default = Script(status=503)
    async with Upstreams([spec(a, "c", "b"), spec(b), spec(c)]) as upstreams:
        assert await brought(upstreams) == ("b", 200)
        assert idle(upstreams)
    assert [len(each.calls) for each in fakes] == [1, 1, 1]


async def test_a_fallbacks_own_fallbacks_follow(fakes: Fakes) -> None:
    a, b, c = fakes
    a.default = b.default = Script(status=503)
    async with Upstreams([spec(a, "b"), spec(b, "c"), spec(c)]) as upstreams:
        assert await brought(upstreams) == ("c", 200)


async def test_replicas_share_their_fallbacks(fakes: Fakes) -> None:
    a, b, c = fakes
    a.default = b.default = Script(status=503)
    replicas = [spec(a, models=("m",)), spec(b, "c", models=("m",), max_retries=1)]
    async with Upstreams([*replicas, spec(c)]) as upstreams:
        assert await brought(upstreams, call("m")) == ("c", 200)
    assert (len(a.calls), len(b.calls)) == (1, 1)


async def test_a_final_answer_of_a_fallback_is_passed_on(fakes: Fakes) -> None:
    a, b, c = fakes
    a.default, b.default = Script(status=503), Script(status=404)
    async with Upstreams([spec(a, "b", "c"), spec(b), spec(c)]) as upstreams:
        assert await brought(upstreams) == ("b", 404)
    assert not c.calls


@pytest.mark.parametrize("size", [10, 700_000])
async def test_when_nobody_can_the_first_groups_answer_is_passed_on_byte_for_byte(
    fakes: Fakes, size: int
) -> None:
    a, b, c = fakes
    body = b"<h1>%b</h1>" % (b"x" * size)
    a.default = Script(status=503, body=body, content_type="text/html", headers={"X": "y"})
    b.default, c.default = Script(status=502), Script(status=429)
    async with Upstreams([spec(a, "b", "c"), spec(b), spec(c)]) as upstreams:
        async with await upstreams.open(call()) as answer:
            assert (answer.upstream, answer.status) == ("a", 503)
            assert (b"X", b"y") in answer.headers
            assert await answer.read(LIMIT) == body
        assert idle(upstreams)
    assert [len(each.calls) for each in fakes] == [1, 1, 1]


async def test_when_nobody_can_the_first_groups_error_is_told(fakes: Fakes) -> None:
    b = fakes[1]
    b.default = Script(status=503)
    async with Upstreams([spec(refusing_url(), "b"), spec(b)]) as upstreams:
        with pytest.raises(UpstreamUnavailable, match="upstream a: no connection"):
            await upstreams.open(call())
        assert idle(upstreams)
    assert len(b.calls) == 1


async def test_while_a_fallback_answers_the_first_group_is_not_busy(fakes: Fakes) -> None:
    a, b, _ = fakes
    a.default, b.default = Script(status=503), Script(delay=30)
    async with Upstreams([spec(a, "b"), spec(b)]) as upstreams:
        task = asyncio.create_task(upstreams.open(call()))
        await b.until(lambda: b.open_now == 1)
        assert [group.in_flight for group in upstreams.groups] == [0, 1]
        task.cancel()
        await asyncio.wait([task])


class HalfAnswer:
    """A server whose 503 never comes to its end: only hanging up on it frees its connection."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Down\r\nContent-Length: 9\r\n\r\nhalf")
        while await reader.read(9999):
            pass
        self.left.set()
        writer.close()


@pytest.mark.parametrize("gone", [False, True], ids=["answered", "hung up"])
async def test_what_the_first_group_brought_is_let_go_of(fakes: Fakes, gone: bool) -> None:
    b, half = fakes[1], HalfAnswer()
    b.default = Script(delay=30 if gone else 0)
    server = await asyncio.start_server(half.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, Upstreams([spec(url, "b"), spec(b)]) as upstreams:
        task = asyncio.create_task(upstreams.open(call()))
        if gone:
            await b.until(lambda: b.open_now == 1)
            assert not half.left.is_set()  # it might still be needed
            task.cancel()
            await b.until(lambda: b.cancelled == 1)
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await (await task).aclose()
        await asyncio.wait_for(half.left.wait(), 5)
        assert idle(upstreams)


async def test_every_try_is_told_once_and_under_its_own_upstream(fakes: Fakes) -> None:
    a, b, c = fakes
    a.default, b.default = Script(status=503), Script(status=429)
    seen: list[CallFacts] = []
    specs = [spec(a, "b", "c"), spec(b), spec(c)]
    async with Upstreams(specs, on_call=seen.append) as upstreams:
        await brought(upstreams)
        c.default = Script(status=504)
        await brought(upstreams)
    told = [(facts.upstream, facts.status, facts.outcome) for facts in seen]
    assert told == [
        ("a", 503, "retried"), ("b", 429, "retried"), ("c", 200, "ok"),
        ("a", 503, "retried"), ("b", 429, "retried"), ("c", 504, "retried"),
    ]  # fmt: skip
    assert {facts.model for facts in seen} == {"a-large"}


# -- ejected replicas


async def test_a_group_whose_replicas_are_all_ejected_is_passed_over(fakes: Fakes) -> None:
    a, b, _ = fakes
    async with Upstreams([spec(a, "b"), spec(b)]) as upstreams:
        eject(upstreams, "a-large", time.monotonic() + 60)
        assert await brought(upstreams) == ("b", 200)
        assert not a.calls
        eject(upstreams, "a-large", time.monotonic())
        assert await brought(upstreams) == ("a", 200)  # due: this call is the probe
        assert not upstreams.route("a-large").members[0].ejections


async def test_an_ejected_group_is_asked_after_all_when_its_fallbacks_cannot_answer(
    fakes: Fakes,
) -> None:
    a, b, _ = fakes
    b.default = Script(status=503)
    seen: list[CallFacts] = []
    async with Upstreams([spec(a, "b"), spec(b)], on_call=seen.append) as upstreams:
        eject(upstreams, "a-large", time.monotonic() + 60)
        assert await brought(upstreams) == ("a", 200)
        a.default = Script(status=502, body=b"of the first")
        eject(upstreams, "a-large", time.monotonic() + 60)
        async with await upstreams.open(call()) as answer:
            assert (answer.status, await answer.read(LIMIT)) == (502, b"of the first")
        assert idle(upstreams)
    assert [(facts.upstream, facts.outcome) for facts in seen] == [
        ("b", "retried"), ("a", "ok"), ("b", "retried"), ("a", "ok"),
    ]  # fmt: skip


async def test_an_ejected_fallback_is_asked_after_the_others(fakes: Fakes) -> None:
    a, b, c = fakes
    a.default = Script(status=503)
    async with Upstreams([spec(a, "b", "c"), spec(b), spec(c)]) as upstreams:
        eject(upstreams, "b", time.monotonic() + 60)
        assert await brought(upstreams) == ("c", 200)
        c.default = Script(status=503)
        assert await brought(upstreams) == ("b", 200)


async def test_a_group_that_is_ejected_by_this_very_call_is_not_waited_for(fakes: Fakes) -> None:
    a, b, _ = fakes
    a.default = Script(status=503)
    async with Upstreams([spec(a, "b", max_retries=9), spec(b)]) as upstreams:
        assert await brought(upstreams) == ("b", 200)
        assert len(a.calls) == 3  # ejected after three failures in a row
        assert await brought(upstreams) == ("b", 200)
        assert len(a.calls) == 3


async def test_without_fallbacks_an_ejected_group_is_still_asked_as_often(fakes: Fakes) -> None:
    a = fakes[0]
    a.play(Script(status=503), Script(status=503))
    async with Upstreams([spec(a, max_retries=2)]) as upstreams:
        eject(upstreams, "a-large", time.monotonic() + 60)
        assert await brought(upstreams) == ("a", 200)
    assert len(a.calls) == 3


# -- what load is told


def latency_of(upstreams: Upstreams, model: str = "a-large") -> float:
    latency = upstreams.route(model).latency_p95(time.monotonic())
    assert latency is not None
    return latency


async def test_a_late_answer_counts_as_long_as_it_was_waited_for(fakes: Fakes) -> None:
    a, b, _ = fakes
    a.default = Script(delay=5)
    limited = spec(a, "b", connect_timeout=0.1, first_byte_timeout=0.2)
    async with Upstreams([limited, spec(b)]) as upstreams:
        await brought(upstreams)
        assert 0.2 <= latency_of(upstreams) < 2.0
        assert latency_of(upstreams, "b") < 0.2  # the fallback's own time


async def test_calls_that_are_turned_away_at_once_do_not_look_fast(fakes: Fakes) -> None:
    a = fakes[0]
    a.play(Script(delay=0.2), *[Script(status=429)] * 9)
    async with Upstreams([spec(a)]) as upstreams:
        for _ in range(10):
            await brought(upstreams)
        assert latency_of(upstreams) >= 0.2
        assert len(upstreams.route("a-large").first_bytes) == 1


@pytest.mark.parametrize(
    ("status", "counts"),
    [(200, True), (302, True), (429, True), (500, True), (503, True), (400, False), (404, False)],
)
async def test_what_the_client_got_wrong_says_nothing_of_the_load(
    fakes: Fakes, status: int, counts: bool
) -> None:
    fakes[0].default = Script(status=status, body=b"{}")
    async with Upstreams([spec(fakes[0])]) as upstreams:
        await brought(upstreams)
        tries = upstreams.route("a-large").tries
        assert [each.failed for each in tries] == ([status >= 400] if counts else [])


async def test_a_client_that_gave_up_waiting_counts_as_slow(fakes: Fakes) -> None:
    a = fakes[0]
    async with Upstreams([spec(a)]) as upstreams:
        await brought(upstreams)
        a.default = Script(delay=30)
        task = asyncio.create_task(upstreams.open(call()))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.wait([task])
        assert latency_of(upstreams) >= 0.25


async def test_uploads_and_calls_without_a_model_say_nothing_of_the_load(fakes: Fakes) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"abc"

    async with Upstreams([spec(fakes[0])]) as upstreams:
        await brought(upstreams, call(body=body()))
        await brought(upstreams, call(None))
        assert upstreams.route("a-large").latency_p95(time.monotonic()) is None


async def test_a_group_is_named_after_its_members(fakes: Fakes) -> None:
    a, b, c = fakes
    specs = [spec(a, models=("m",)), spec(c), replace(spec(b), models=("m",))]
    upstreams = Upstreams(specs)
    assert upstreams.group_name("m") == "a+b"
    assert [group.name for group in upstreams.groups] == ["a+b", "c"]
