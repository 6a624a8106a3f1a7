"""The way upstream against a real server on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from proxy.headers import Credential
from proxy.upstream import (
    CallFacts,
    ModelUnknown,
    UpstreamAnswer,
    UpstreamBroken,
    UpstreamCall,
    UpstreamError,
    Upstreams,
    UpstreamSpec,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tests.fake_upstream import FakeUpstream, Script

LIMIT = 1_000_000


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


def spec(fake: FakeUpstream | str, name: str = "main", **more: Any) -> UpstreamSpec:
    base_url = fake if isinstance(fake, str) else fake.base_url
    return UpstreamSpec(name=name, **({"models": ("*",), "base_url": base_url} | more))


def chat(text: str = "hi", *, stream: bool = False, model: str = "gpt-4o-mini") -> UpstreamCall:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
    return UpstreamCall(
        method="POST",
        path="/chat/completions",
        headers=[("content-type", "application/json")],
        body=json.dumps(body).encode(),
        model=model,
    )


async def said(upstreams: Upstreams, call: UpstreamCall) -> str:
    """Return what a chat call brings as text."""
    async with await upstreams.open(call) as answer:
        text = json.loads(await answer.read(LIMIT))["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


async def status(upstreams: Upstreams, call: UpstreamCall) -> int:
    async with await upstreams.open(call) as answer:
        await answer.read(LIMIT)
        return answer.status


def idle(upstreams: Upstreams) -> bool:
    return all(m.in_flight == 0 for group in upstreams.fleet.groups for m in group.members)


def refusing_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/v1"


# -- what is sent and what comes back


async def test_a_call_arrives_as_it_was_made(fake: FakeUpstream) -> None:
    call = chat("hello")
    call.path += "?a=%20b&c=%2F+d"
    call.headers = [("content-type", "application/json"), ("x-a", "1"), ("x-a", "ü")]
    async with Upstreams([spec(fake)]) as upstreams:
        await said(upstreams, call)
    [arrived] = fake.calls
    assert arrived.method == "POST"
    assert arrived.target == "/v1/chat/completions?a=%20b&c=%2F+d"
    assert bytes(arrived.raw) == call.body
    assert arrived.headers.getall("x-a") == ["1", "ü"]
    names = {name.lower() for name in arrived.headers}
    assert names == {"host", "content-length", "content-type", "x-a"}


async def test_an_answer_comes_as_it_is(fake: FakeUpstream) -> None:
    body = b'{"as": "it is",  "spaced" :1}\n'
    fake.play(Script(body=body, headers={"X-Thing": "a", "Set-Cookie": "b=c"}))
    async with Upstreams([spec(fake)]) as upstreams, await upstreams.open(chat()) as answer:
        assert answer.status == 200
        assert answer.upstream == "main"
        assert (b"X-Thing", b"a") in answer.headers
        assert await answer.read(LIMIT) == body
        await said(upstreams, chat())
    assert "Cookie" not in fake.calls[1].headers


async def test_an_encoded_body_is_not_decoded(fake: FakeUpstream) -> None:
    fake.play(Script(body=b"\x1f\x8bnot really", headers={"Content-Encoding": "gzip"}))
    async with Upstreams([spec(fake)]) as upstreams, await upstreams.open(chat()) as answer:
        assert await answer.read(LIMIT) == b"\x1f\x8bnot really"


async def test_a_redirect_is_passed_on_and_not_followed(fake: FakeUpstream) -> None:
    fake.play(Script(status=302, headers={"Location": "/v1/elsewhere"}, body=b""))
    async with Upstreams([spec(fake)]) as upstreams:
        assert await status(upstreams, chat()) == 302
    assert len(fake.calls) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT", "PATCH", "OPTIONS"])
async def test_every_method_goes_through_without_a_body(fake: FakeUpstream, method: str) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        call = UpstreamCall(method=method, path="/things/1", headers=[])
        async with await upstreams.open(call) as answer:
            assert answer.status == 200
            assert bool(await answer.read(LIMIT)) == (method != "HEAD")
    assert fake.calls[0].method == method
    assert not fake.calls[0].raw


async def test_a_large_body_is_sent_whole(fake: FakeUpstream) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        assert await status(upstreams, chat("x" * 900_000)) == 200
    assert len(fake.calls[0].raw) > 900_000
    assert fake.calls[0].headers["Content-Length"] == str(len(fake.calls[0].raw))


async def test_connections_are_kept_and_used_again(fake: FakeUpstream) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        for _ in range(5):
            await said(upstreams, chat())
        assert fake.connections == 1


async def test_a_body_larger_than_allowed_is_refused(fake: FakeUpstream) -> None:
    fake.play(Script(body=b"x" * 5000), Script(body=b"x" * 5000), Script(text="word " * 99))
    async with Upstreams([spec(fake)]) as upstreams:
        async with await upstreams.open(chat()) as answer:
            assert len(await answer.read(5000)) == 5000
        async with await upstreams.open(chat()) as answer:
            with pytest.raises(UpstreamBroken, match="upstream main: .* larger than 4999 bytes"):
                await answer.read(4999)
        async with await upstreams.open(chat(stream=True)) as answer:
            with pytest.raises(UpstreamBroken, match="larger"):
                await answer.read(500)
        assert idle(upstreams)


@pytest.mark.parametrize("sent", ["own", "tenant", "client"])
async def test_the_credential_of_the_chosen_upstream_goes_up(fake: FakeUpstream, sent: str) -> None:
    call = chat()
    theirs = (("authorization", "Bearer client-key"),)
    call.credential = {
        "own": Credential(theirs, None, True),
        "tenant": Credential(theirs, "tenant-key", True),
        "client": Credential(theirs, None, False),
    }[sent]
    async with Upstreams([spec(fake, api_key="own-key")]) as upstreams:
        await said(upstreams, call)
    assert fake.calls[0].headers["Authorization"] == f"Bearer {sent}-key"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_body_that_has_arrived_is_had_without_waiting(
    fake: FakeUpstream, stream: bool
) -> None:
    fake.default = Script(hold_after=1)
    async with Upstreams([spec(fake)]) as upstreams:
        async with await upstreams.open(chat("hi", stream=stream)) as answer:
            if stream:
                assert answer.whole() is None
                fake.release.set()
                assert (await answer.read(LIMIT)).endswith(b"[DONE]\n\n")
            else:
                whole = answer.whole()
                while whole is None:  # head and body came in two reads
                    await asyncio.sleep(0)
                    whole = answer.whole()
                assert b"Answer 1 to: hi" in whole
                assert answer.whole() == b""
        assert idle(upstreams)


# -- streams


async def test_a_stream_arrives_while_it_is_made(fake: FakeUpstream) -> None:
    fake.play(Script(hold_after=3))
    async with Upstreams([spec(fake)]) as upstreams:
        async with await upstreams.open(chat("one two", stream=True)) as answer:
            received = b""
            async for chunk in answer.chunks():
                received += chunk
                if received.count(b"data: ") == 3:
                    fake.release.set()
        assert received.endswith(b"data: [DONE]\n\n")
        assert idle(upstreams)


async def test_hanging_up_cancels_the_upstream_call_at_once(fake: FakeUpstream) -> None:
    fake.default = Script(endless=True, token_delay=0.001)
    async with Upstreams([spec(fake)]) as upstreams:
        async with await upstreams.open(chat(stream=True)) as answer:
            async for _ in answer.chunks():
                break
        await fake.until(lambda: fake.cancelled == 1 and fake.open_now == 0)
        assert idle(upstreams)


async def test_cancelling_before_the_answer_cancels_the_upstream_call(fake: FakeUpstream) -> None:
    fake.default = Script(delay=30)
    async with Upstreams([spec(fake)]) as upstreams:
        task = asyncio.create_task(upstreams.open(chat()))
        await fake.until(lambda: fake.open_now == 1)
        task.cancel()
        await fake.until(lambda: fake.cancelled == 1)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert idle(upstreams)


async def test_cancelling_in_the_middle_of_a_read_frees_the_call(fake: FakeUpstream) -> None:
    fake.default = Script(hold_after=1)
    async with Upstreams([spec(fake)]) as upstreams:

        async def reading() -> None:
            async with await upstreams.open(chat(stream=True)) as answer:
                async for _ in answer.chunks():
                    pass

        task = asyncio.create_task(reading())
        await fake.until(lambda: fake.open_now == 1)
        task.cancel()
        await asyncio.wait([task])
        await fake.until(lambda: fake.cancelled == 1)
        assert idle(upstreams)


async def pieces(*chunks: bytes, wait: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    for number, chunk in enumerate(chunks):
        if number and wait is not None:
            await wait.wait()
        yield chunk


def upload(body: AsyncIterator[bytes], length: int | None = None) -> UpstreamCall:
    return UpstreamCall(method="POST", path="/echo", headers=[], body=body, length=length)


@pytest.mark.parametrize("length", [6, None])
async def test_an_upload_is_sent_as_it_comes(fake: FakeUpstream, length: int | None) -> None:
    more = asyncio.Event()
    async with Upstreams([spec(fake)]) as upstreams:
        task = asyncio.create_task(
            status(upstreams, upload(pieces(b"abc", b"def", wait=more), length))
        )
        await fake.until(lambda: bool(fake.calls and fake.calls[0].raw == b"abc"))
        more.set()
        assert await task == 200
    assert fake.calls[0].raw == b"abcdef"
    assert ("Content-Length" in fake.calls[0].headers) == (length is not None)


async def test_an_upload_that_moves_is_not_late(fake: FakeUpstream) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(8):
            await asyncio.sleep(0.1)
            yield b"x"

    limited = spec(fake, connect_timeout=0.1, first_byte_timeout=0.3)
    async with Upstreams([limited]) as upstreams:
        assert await status(upstreams, upload(slow())) == 200


async def test_a_failing_upload_raises_its_own_error(fake: FakeUpstream) -> None:
    class ClientGone(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ClientGone

    seen: list[CallFacts] = []
    async with Upstreams([spec(fake)], on_call=seen.append) as upstreams:
        with pytest.raises(ClientGone):
            await upstreams.open(upload(broken()))
        assert idle(upstreams)
    assert [facts.outcome for facts in seen] == ["cancelled"]


# -- failures


async def failure(upstreams: Upstreams, call: UpstreamCall) -> UpstreamError:
    """Return the error of a call, whichever part of it fails."""
    with pytest.raises(UpstreamError) as failed:
        async with await upstreams.open(call) as answer:
            async for _ in answer.chunks():
                pass
    assert "127.0.0.1" not in str(failed.value)
    assert "upstream main" in str(failed.value)
    assert idle(upstreams)
    return failed.value


async def test_a_refused_connection() -> None:
    async with Upstreams([spec(refusing_url(), max_retries=1)]) as upstreams:
        error = await failure(upstreams, chat())
    assert isinstance(error, UpstreamUnavailable)


async def test_a_host_that_does_not_resolve() -> None:
    url = "http://nowhere.invalid/v1"
    async with Upstreams([spec(url, max_retries=0)]) as upstreams:
        with pytest.raises(UpstreamUnavailable) as failed:
            await upstreams.open(chat())
    assert "nowhere.invalid" not in str(failed.value)


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        pytest.param(Script(drop=True), UpstreamBroken, "without an answer", id="no answer"),
        pytest.param(Script(cut_after=20), UpstreamBroken, "broke off", id="cut JSON"),
        pytest.param(Script(delay=5), UpstreamTimeout, "no answer within 0.2 s", id="late"),
    ],
)
async def test_an_answer_that_fails(
    fake: FakeUpstream, script: Script, kind: type[UpstreamError], words: str
) -> None:
    fake.play(script)
    limited = spec(fake, connect_timeout=0.1, first_byte_timeout=0.2)
    async with Upstreams([limited]) as upstreams:
        error = await failure(upstreams, chat())
    assert isinstance(error, kind)
    assert words in str(error)
    assert len(fake.calls) == 1  # none of these is tried again


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        pytest.param(Script(cut_after=2), UpstreamBroken, "broke off", id="cut stream"),
        pytest.param(Script(hold_after=2), UpstreamTimeout, "silent for 0.2 s", id="silent stream"),
    ],
)
async def test_a_stream_that_fails(
    fake: FakeUpstream, script: Script, kind: type[UpstreamError], words: str
) -> None:
    fake.play(script)
    async with Upstreams([spec(fake, idle_timeout=0.2)]) as upstreams:
        error = await failure(upstreams, chat(stream=True))
    assert isinstance(error, kind)
    assert words in str(error)


async def test_a_server_that_sends_its_head_at_once_has_the_time_to_the_first_byte(
    fake: FakeUpstream,
) -> None:
    fake.default = Script(hold_after=0)
    limited = spec(fake, idle_timeout=0.1, first_byte_timeout=0.4)
    async with Upstreams([limited]) as upstreams:
        asyncio.get_running_loop().call_later(0.2, fake.release.set)
        async with await upstreams.open(chat(stream=True)) as answer:
            assert (await answer.read(LIMIT)).endswith(b"data: [DONE]\n\n")
        fake.release.clear()
        error = await failure(upstreams, chat(stream=True))
    assert isinstance(error, UpstreamTimeout)
    assert "silent for 0.4 s" in str(error)


async def answer_once(raw: bytes) -> tuple[asyncio.Server, str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 two hundred\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n", id="a status of its own"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", id="NUL in a header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", id="huge header"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
            id="two lengths",
        ),
    ],
)
async def test_an_answer_that_is_not_http(raw: bytes) -> None:
    server, url = await answer_once(raw)
    async with server, Upstreams([spec(url)]) as upstreams:
        assert isinstance(await failure(upstreams, chat()), UpstreamBroken)


async def test_a_connection_that_is_never_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}/v1"
        async with Upstreams([spec(url, connect_timeout=0.2, max_retries=0)]) as upstreams:
            error = await failure(upstreams, chat())
        for each in waiting:
            each.close()
    assert isinstance(error, UpstreamTimeout)
    assert "no connection within 0.2 s" in str(error)


async def test_an_unknown_model_reaches_nobody(fake: FakeUpstream) -> None:
    async with Upstreams([spec(fake, models=("gpt-*",))]) as upstreams:
        with pytest.raises(ModelUnknown):
            await upstreams.open(chat(model="claude"))
    assert not fake.calls


# -- retries


@pytest.mark.parametrize("code", [502, 503, 504])
async def test_an_overloaded_upstream_is_tried_again(fake: FakeUpstream, code: int) -> None:
    fake.play(Script(status=code), Script(status=code))
    async with Upstreams([spec(fake)]) as upstreams:
        assert await said(upstreams, chat("hi")) == "Answer 3 to: hi"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Script(status=500), id="500"),
        pytest.param(Script(status=400), id="400"),
        pytest.param(Script(status=429), id="429 that does not say when"),
        pytest.param(Script(status=429, headers={"Retry-After": "60"}), id="429 too far away"),
        pytest.param(Script(status=529), id="529"),
    ],
)
async def test_any_other_status_is_passed_on_at_once(fake: FakeUpstream, script: Script) -> None:
    fake.default = script
    async with Upstreams([spec(fake)]) as upstreams:
        assert await status(upstreams, chat()) == script.status
    assert len(fake.calls) == 1


async def test_a_429_is_waited_out_as_long_as_it_says(fake: FakeUpstream) -> None:
    fake.play(Script(status=429, headers={"Retry-After": "0.3"}))
    async with Upstreams([spec(fake)]) as upstreams:
        began = time.monotonic()
        assert await said(upstreams, chat("hi")) == "Answer 2 to: hi"
        assert time.monotonic() - began >= 0.3


async def test_the_last_answer_is_passed_on_byte_for_byte(fake: FakeUpstream) -> None:
    last = Script(status=503, body=b"<h1>down</h1>", content_type="text/html", headers={"X": "y"})
    fake.play(Script(status=503), Script(status=502), last)
    async with Upstreams([spec(fake)]) as upstreams, await upstreams.open(chat()) as answer:
        assert answer.status == 503
        assert (b"X", b"y") in answer.headers
        assert await answer.read(LIMIT) == b"<h1>down</h1>"
        assert len(fake.calls) == 3


async def test_a_stream_of_a_body_is_never_sent_twice(fake: FakeUpstream) -> None:
    fake.play(Script(status=503))
    async with Upstreams([spec(fake)]) as upstreams:
        assert await status(upstreams, upload(pieces(b"abc"))) == 503
    assert len(fake.calls) == 1


async def test_no_retries_when_none_are_allowed(fake: FakeUpstream) -> None:
    fake.play(Script(status=503))
    async with Upstreams([spec(fake, max_retries=0)]) as upstreams:
        assert await status(upstreams, chat()) == 503
    assert len(fake.calls) == 1


async def test_an_upstream_that_comes_up_meanwhile_is_reached(fake: FakeUpstream) -> None:
    await fake.stop()
    async with Upstreams([spec(fake, max_retries=10)]) as upstreams:
        task = asyncio.create_task(said(upstreams, chat("hi")))
        await asyncio.sleep(0.1)
        await fake.start()
        assert await task == "Answer 1 to: hi"


# -- connections that went stale


async def test_a_connection_closed_while_it_idled_is_replaced_unseen(
    fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.upstream.STALE_AFTER", 0.0)
    async with Upstreams([spec(fake, max_retries=0)]) as upstreams:
        await said(upstreams, chat())
        fake.play(Script(drop=True))
        assert await said(upstreams, chat("hi")) == "Answer 3 to: hi"


async def test_a_server_that_fails_on_a_busy_connection_is_not_asked_twice(
    fake: FakeUpstream,
) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        await said(upstreams, chat())
        fake.play(Script(drop=True))
        await failure(upstreams, chat())
    assert len(fake.calls) == 2


async def test_a_stale_connection_is_replaced_once_only(
    fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.upstream.STALE_AFTER", 0.0)
    async with Upstreams([spec(fake)]) as upstreams:
        await said(upstreams, chat())
        fake.play(Script(drop=True), Script(drop=True))
        await failure(upstreams, chat())
    assert len(fake.calls) == 3


# -- replicas


@pytest.fixture
async def pair() -> AsyncIterator[tuple[FakeUpstream, FakeUpstream]]:
    async with FakeUpstream("a") as a, FakeUpstream("b") as b:
        yield a, b


async def test_calls_go_where_fewest_are_in_flight(
    pair: tuple[FakeUpstream, FakeUpstream],
) -> None:
    a, b = pair
    async with Upstreams([spec(a, "a"), spec(b, "b")]) as upstreams:
        answers = [await upstreams.open(chat(stream=True)) for _ in range(6)]
        assert (len(a.calls), len(b.calls)) == (3, 3)
        for answer in answers:
            await answer.aclose()
        assert idle(upstreams)


@pytest.mark.parametrize("trouble", ["status", "down"])
async def test_another_replica_is_tried_at_once(
    pair: tuple[FakeUpstream, FakeUpstream], trouble: str
) -> None:
    a, b = pair
    a.default = Script(status=503)
    if trouble == "down":
        await a.stop()
    async with Upstreams([spec(a, "a"), spec(b, "b")]) as upstreams:
        for _ in range(4):
            assert await said(upstreams, chat("hi")) == f"Answer {len(b.calls)} to: hi"
    assert len(b.calls) == 4


async def test_a_replica_that_keeps_failing_is_left_alone_and_probed_back(
    pair: tuple[FakeUpstream, FakeUpstream],
) -> None:
    a, b = pair
    a.default = Script(status=503)
    async with Upstreams([spec(a, "a"), spec(b, "b")]) as upstreams:
        for _ in range(20):
            await said(upstreams, chat())
        assert len(a.calls) == 3  # ejected after three failures in a row
        a.default = Script()
        [ejected] = [m for m in upstreams.route(None).members if m.ejections]
        ejected.ejected_until = time.monotonic()
        await said(upstreams, chat())
        assert len(a.calls) == 4
        assert not ejected.ejections


async def test_a_replica_whose_answers_keep_breaking_off_is_left_alone(
    pair: tuple[FakeUpstream, FakeUpstream],
) -> None:
    a, b = pair
    a.default = Script(cut_after=2)
    async with Upstreams([spec(a, "a"), spec(b, "b")]) as upstreams:
        for _ in range(20):
            async with await upstreams.open(chat(stream=True)) as answer:
                with suppress(UpstreamBroken):
                    await answer.read(LIMIT)
        assert len(a.calls) == 3
        a.default = Script()
        [ejected] = [m for m in upstreams.route(None).members if m.ejections]
        ejected.ejected_until = time.monotonic()
        await said(upstreams, chat())
        assert not (ejected.ejections or ejected.failures)


async def test_an_answer_that_a_client_leaves_ends_a_row_of_failures(fake: FakeUpstream) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        [member] = upstreams.route(None).members
        for _ in range(5):
            fake.play(Script(cut_after=2), Script(hold_after=1))
            await failure(upstreams, chat(stream=True))
            assert member.failures == 1
            await (await upstreams.open(chat(stream=True))).aclose()
            assert member.failures == 0


async def test_when_all_are_down_the_error_says_so() -> None:
    specs = [spec(refusing_url(), name) for name in ("a", "b")]
    async with Upstreams(specs) as upstreams:
        for _ in range(5):
            with pytest.raises(UpstreamUnavailable):
                await upstreams.open(chat())
        assert idle(upstreams)


async def test_a_hundred_calls_at_once_are_all_accounted_for(
    pair: tuple[FakeUpstream, FakeUpstream],
) -> None:
    seen: list[CallFacts] = []
    specs = [spec(fake, fake.name) for fake in pair]
    async with Upstreams(specs, on_call=seen.append) as upstreams:
        texts = await asyncio.gather(*(said(upstreams, chat(f"q{n}")) for n in range(100)))
        assert idle(upstreams)
    assert [text.split(" to: ")[1] for text in texts] == [f"q{n}" for n in range(100)]
    assert sum(facts.outcome == "ok" for facts in seen) == len(seen) == 100
    assert min(len(fake.calls) for fake in pair) >= 40


# -- facts


async def test_every_try_is_told_once(fake: FakeUpstream) -> None:
    seen: list[CallFacts] = []
    fake.play(Script(status=503), Script(), Script(cut_after=2), Script(), Script(hold_after=1))
    async with Upstreams([spec(fake, idle_timeout=0.2)], on_call=seen.append) as upstreams:
        await said(upstreams, chat())
        await failure(upstreams, chat(stream=True))
        await (await upstreams.open(chat(stream=True))).aclose()
        await failure(upstreams, chat(stream=True))
    told = [(facts.status, facts.outcome) for facts in seen]
    expected = [
        (503, "retried"),
        (200, "ok"),
        (200, "broken"),
        (200, "cancelled"),
        (200, "timeout"),
    ]
    assert told == expected
    for facts in seen:
        assert (facts.upstream, facts.model) == ("main", "gpt-4o-mini")
        assert facts.first_byte is not None
        assert 0 < facts.first_byte <= facts.total


async def test_a_call_without_an_answer_is_told_too() -> None:
    seen: list[CallFacts] = []
    specs = [spec(refusing_url(), max_retries=0)]
    async with Upstreams(specs, on_call=seen.append) as upstreams:
        with pytest.raises(UpstreamUnavailable):
            await upstreams.open(chat())
    [facts] = seen
    assert (facts.status, facts.outcome, facts.first_byte) == (0, "unavailable", None)


async def test_closing_twice_counts_once(fake: FakeUpstream) -> None:
    seen: list[CallFacts] = []
    async with Upstreams([spec(fake)], on_call=seen.append) as upstreams:
        answer: UpstreamAnswer = await upstreams.open(chat())
        await answer.read(LIMIT)
        await answer.aclose()
        await answer.aclose()
        assert idle(upstreams)
    assert len(seen) == 1


async def test_good_answers_make_the_groups_p95(fake: FakeUpstream) -> None:
    async with Upstreams([spec(fake)]) as upstreams:
        assert upstreams.route("x").first_byte_p95() is None
        fake.play(Script(delay=0.1), Script(status=400))
        await said(upstreams, chat())
        await status(upstreams, chat())
        p95 = upstreams.route("x").first_byte_p95()
    assert p95 is not None
    assert 0.1 <= p95 < 5
