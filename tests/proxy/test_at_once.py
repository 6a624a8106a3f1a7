"""A request that memory can answer needs no task, and nobody can tell from the bytes.

The protocol is fed by hand: what arrives in which pieces is part of each case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from proxy.protocol import GuardedProtocol, Limits, protocol_class
from proxy.routes import AtOnce, Scope, Write

DRAINED = 60  # turns of the event loop in which everything here is answered


class Wire(asyncio.Transport):
    """A connection whose client is this test."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.wrote = asyncio.Event()
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data
        self.wrote.set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class App:
    """Says what it was asked, after a few turns of the event loop."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.append(scope["path"])
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        for _ in range(len(body) % 3):
            await asyncio.sleep(0)
        said = b"said " + scope["path"].encode() + b" " + body
        headers = [(b"content-length", b"%d" % len(said))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": said})


def known(scope: Scope, body: bytes, write: Write) -> bool:
    """Answer at once, in the app's own words, what begins with a k."""
    if not body.startswith(b"k"):
        return False
    said = b"said " + scope["path"].encode() + b" " + body
    return write(200, [(b"content-length", b"%d" % len(said))], said)


def post(body: bytes, *headers: bytes, method: bytes = b"POST", version: bytes = b"1.1") -> bytes:
    told = [b"Host: t", b"Content-Length: %d" % len(body), *headers]
    return b"%b /a HTTP/%b\r\n" % (method, version) + b"\r\n".join(told) + b"\r\n\r\n" + body


async def fed(
    pieces: Sequence[bytes], at_once: AtOnce | None = known, limits: Limits | None = None
) -> tuple[Wire, App]:
    """Feed a connection piece by piece; return it, and the app behind."""
    app, wire = App(), Wire()
    kind = protocol_class(limits or Limits(), sweep_every=0.02, at_once=at_once)
    config = uvicorn.Config(
        app, http=kind, ws="none", lifespan="off", access_log=False, log_config=None
    )
    config.load()
    protocol: GuardedProtocol = kind(config, ServerState(), {})
    protocol.connection_made(wire)
    for piece in pieces:
        protocol.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(DRAINED):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    return wire, app


def answer(body: bytes) -> bytes:
    said = b"said /a " + body
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(said) + said


async def test_what_memory_knows_needs_no_task() -> None:
    wire, app = await fed([post(b"k1"), post(b"k2")])
    assert wire.written == answer(b"k1") + answer(b"k2")
    assert app.begun == []


async def test_a_short_body_may_come_behind_its_head() -> None:
    head, body = post(b"k1")[:-2], b"k1"
    wire, app = await fed([head, body])
    assert (wire.written, app.begun) == (answer(b"k1"), [])


async def test_whatever_else_is_asked_goes_to_the_app_whole() -> None:
    wire, app = await fed([post(b"new question")[:-4], b"tion"])
    assert (wire.written, app.begun) == (answer(b"new question"), ["/a"])


async def test_what_comes_behind_a_request_that_takes_longer_waits_for_it() -> None:
    wire, app = await fed([post(b"new") + post(b"k1") + post(b"k2") + post(b"old")])
    assert wire.written == b"".join(map(answer, (b"new", b"k1", b"k2", b"old")))
    assert app.begun == ["/a"] * 4


async def test_another_method_is_not_asked_of_memory() -> None:
    _, app = await fed([post(b"k1", method=b"PUT")])
    assert app.begun == ["/a"]


async def test_a_connection_that_ends_here_is_the_servers_to_close() -> None:
    for last in (post(b"k1", b"Connection: close"), post(b"k1", version=b"1.0")):
        wire, app = await fed([last])
        assert app.begun == ["/a"]
        assert wire.closed


async def test_who_waits_for_100_is_told_to_go_on() -> None:
    head, body = post(b"k1", b"Expect: 100-continue")[:-2], b"k1"
    wire, app = await fed([head, body])
    assert wire.written == b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"k1")
    assert app.begun == ["/a"]


async def test_a_body_that_is_long_or_of_unknown_length_is_not_waited_for() -> None:
    chunked = b"POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    long = post(b"k" * 70_000)[:200]
    for begun in (chunked, long):
        wire, app = await fed([begun])
        assert app.begun == ["/a"]
        assert wire.written == b""


async def test_a_short_body_that_does_not_come_is_given_up_on() -> None:
    app, wire = App(), Wire()
    kind = protocol_class(Limits(body_timeout=0.05), sweep_every=0.02, at_once=known)
    config = uvicorn.Config(
        app, http=kind, ws="none", lifespan="off", access_log=False, log_config=None
    )
    config.load()
    protocol = kind(config, ServerState(), {})
    protocol.connection_made(wire)
    protocol.data_received(post(b"k1")[:-1])
    async with asyncio.timeout(10):
        await wire.wrote.wait()
    assert wire.written.startswith(b"HTTP/1.1 408 ")
    assert app.begun == []
    protocol.connection_lost(None)


async def test_a_head_that_would_end_early_is_not_written() -> None:
    def split(scope: Scope, body: bytes, write: Write) -> bool:
        for value in (b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"):
            assert not write(200, [(b"x", value), (b"content-length", b"1")], b"!")
        return False

    wire, app = await fed([post(b"k1")], split)
    assert (wire.written, app.begun) == (answer(b"k1"), ["/a"])


async def test_an_answer_without_a_body_goes_before_what_is_answered_at_once() -> None:
    asked = b"HEAD /a HTTP/1.1\r\nHost: t\r\n\r\n"
    wire, _ = await fed([asked, post(b"k1")])
    assert wire.written == b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n" + answer(b"k1")


async def test_a_request_with_garbage_behind_it_is_not_begun() -> None:
    wire, app = await fed([post(b"new") + b"garbage\r\n\r\n"])
    assert (wire.written, app.begun) == (b"", [])
    assert wire.closed


BODIES = st.sampled_from([b"", b"k", b"k1", b"new", b"news", b"k" * 300])


@given(st.lists(BODIES, min_size=1, max_size=6), st.data())
@settings(max_examples=150, deadline=None)
def test_the_answers_are_the_same_however_the_requests_arrive(
    bodies: list[bytes], data: st.DataObject
) -> None:
    raw = b"".join(map(post, bodies))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    async def both() -> tuple[bytes, bytes]:
        return (await fed(pieces))[0].written, (await fed(pieces, None))[0].written

    ours, plain = asyncio.run(both())
    assert ours == plain == b"".join(map(answer, bodies))
