"""Raw bytes over loopback against a real uvicorn server with the guarded protocol."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import uvicorn

from proxy.protocol import HeadWithBody, Limits, protocol_class

pytestmark = pytest.mark.serial

LIMITS = Limits(header_timeout=0.4, body_timeout=0.4)


@dataclass
class Echo:
    """An ASGI app that tells what arrived, with a few ways to misbehave."""

    disconnected: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.started.set()
        if scope["path"] == "/early":
            await self._reply(send, 413, b"{}")
        elif scope["path"] == "/hang":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.disconnected.set()
        elif scope["path"] == "/head-first":
            headers = [(b"content-length", b"20")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await asyncio.to_thread(self.go_on.wait)
            for part in (b"HTTP/1.1 ", b"HTTP/1.1 ", b"ok"):  # that begins as a head does
                more = part != b"ok"
                await send({"type": "http.response.body", "body": part, "more_body": more})
        elif scope["path"] == "/trickle":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await receive()
            while (await receive())["type"] != "http.disconnect":
                pass
            self.disconnected.set()
        else:
            await asyncio.sleep(0.9 if scope["path"] == "/late" else 0)
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            names = [name.decode() for name, _ in scope["headers"]]
            told = {"path": scope["path"], "bytes": len(body), "headers": names}
            await self._reply(send, 200, json.dumps(told).encode())

    async def _reply(self, send: Any, status: int, body: bytes) -> None:
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error, dict)
        return error


@dataclass
class Served:
    port: int
    app: Echo
    server: uvicorn.Server

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def ask(self, raw: bytes) -> Reply:
        """Send bytes and read until the server closes."""
        with self.connect() as connection:
            connection.sendall(raw)
            return parsed(read_all(connection))


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def read_reply(connection: socket.socket) -> Reply:
    """Read one answer off a connection that stays open."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1)
    reply = parsed(received)
    while len(reply.body) < int(reply.headers["content-length"]):
        reply.body += connection.recv(1)
    return reply


def parsed(raw: bytes) -> Reply:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Reply(int(status.split()[1]), headers, body)


@contextmanager
def serving(loop: Literal["asyncio", "uvloop"], limits: Limits = LIMITS) -> Iterator[Served]:
    app = Echo()
    config = uvicorn.Config(
        app,
        port=0,
        http=protocol_class(limits, sweep_every=0.05),
        loop=loop,
        lifespan="off",
        ws="none",
        log_level="critical",
        timeout_keep_alive=1,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Served(server.servers[0].sockets[0].getsockname()[1], app, server)
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module", params=["uvloop"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(request.param) as served:
        yield served


@pytest.fixture(autouse=True)
def fresh_events(request: pytest.FixtureRequest) -> None:
    if "served" in request.fixturenames:
        app = request.getfixturevalue("served").app
        app.disconnected.clear()
        app.started.clear()


def post(
    *headers: bytes, target: bytes = b"/echo", body: bytes = b"", version: bytes = b"1.1"
) -> bytes:
    lines = [b"POST %s HTTP/%s" % (target, version), b"Host: test", b"Connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


# -- what passes


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        pytest.param(post(b"Content-Length: 3", body=b"abc"), 3, id="content-length"),
        pytest.param(post(b"Content-Length: 0"), 0, id="empty"),
        pytest.param(
            post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n"),
            4,
            id="chunked",
        ),
        pytest.param(
            post(b"Transfer-Encoding: Chunked", body=b"0\r\n\r\n"), 0, id="chunked in any case"
        ),
        pytest.param(b"GET /echo HTTP/1.0\r\n\r\n", 0, id="HTTP/1.0 without Host"),
        pytest.param(b"\r\n" + post(b"Content-Length: 1", body=b"a"), 1, id="a stray line end"),
        pytest.param(post(*[b"X: y"] * 98), 0, id="as many headers as allowed"),
        pytest.param(post(b"X: " + b"y" * 65000), 0, id="as large headers as allowed"),
        pytest.param(post(target=b"/" + b"a" * 8191), 0, id="as long a target as allowed"),
        pytest.param(
            post(b"Content-Length: 300000", b"X: " + b"y" * 60000, body=b"b" * 300000),
            300000,
            id="large headers with a large body behind them",
        ),
    ],
)
def test_a_good_request_passes(served: Served, raw: bytes, size: int) -> None:
    reply = served.ask(raw)
    assert reply.status == 200
    assert json.loads(reply.body)["bytes"] == size


def test_a_connection_serves_request_after_request(served: Served) -> None:
    with served.connect() as connection:
        for size in (1, 2, 3):
            body = b"x" * size
            head = b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size
            connection.sendall(head + body)
            assert json.loads(read_reply(connection).body)["bytes"] == size


def test_a_head_does_not_wait_for_a_body_that_is_late(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(b"GET /head-first HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1)
        served.app.go_on.set()
        body = b""
        while len(body) < 20:
            body += connection.recv(20)
    assert body == b"HTTP/1.1 HTTP/1.1 ok"


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(served: Served) -> None:
    asked = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
    with served.connect() as connection:
        connection.sendall(asked)
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += connection.recv(1)
        assert received == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert json.loads(read_reply(connection).body)["bytes"] == 2


class Written(asyncio.Transport):
    """Keeps what is written to it, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_a_head_and_its_body_are_one_write() -> None:
    transport = Written()
    joined = HeadWithBody(transport, asyncio.get_running_loop())
    for answer in (b"one", b"two"):
        joined.write(b"HTTP/1.1 200 OK\r\n\r\n")
        joined.write(answer)
        joined.write(b"more")
    await asyncio.sleep(0)
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    assert transport.writes == [head + b"one", b"more", head + b"two", b"more"]


async def test_what_waits_is_written_before_the_connection_is_closed() -> None:
    transport = Written()
    joined = HeadWithBody(transport, asyncio.get_running_loop())
    joined.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    joined.close()
    await asyncio.sleep(0)
    assert transport.writes == [b"HTTP/1.1 204 No Content\r\n\r\n"]
    assert joined.is_closing()


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    raw = b"".join(b"GET /echo/%d HTTP/1.1\r\nHost: t\r\n\r\n" % n for n in range(5))
    answers = []
    with served.connect() as connection:
        connection.sendall(raw)
        received = b""
        while received.count(b"/echo/") < 5:
            received += connection.recv(65536)
        answers = [part[:1] for part in received.split(b"/echo/")[1:]]
    assert answers == [b"0", b"1", b"2", b"3", b"4"]


def test_a_request_may_arrive_byte_by_byte(served: Served) -> None:
    with served.connect() as connection:
        for byte in post(b"Content-Length: 3", body=b"abc"):
            connection.sendall(bytes([byte]))
        assert parsed(read_all(connection)).status == 200


def test_trailers_do_not_become_headers(served: Served) -> None:
    tail = b"1\r\na\r\n0\r\nX-Nearhit-Category: late\r\nAuthorization: late\r\n\r\n"
    reply = served.ask(post(b"Transfer-Encoding: chunked", body=tail))
    names = json.loads(reply.body)["headers"]
    assert names == ["host", "connection", "transfer-encoding"]


# -- what is refused


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(
            post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
            "Transfer-Encoding can't be present with Content-Length",
            id="both lengths",
        ),
        pytest.param(
            post(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"0\r\n\r\n"),
            "Content-Length can't be present with Transfer-Encoding",
            id="both lengths the other way round",
        ),
        pytest.param(
            post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd"),
            "Duplicate Content-Length",
            id="two lengths",
        ),
        pytest.param(
            post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"),
            "Duplicate Content-Length",
            id="one length twice",
        ),
        pytest.param(post(b"Content-Length: 3, 3", body=b"abc"), "Content-Length", id="a list"),
        pytest.param(post(b"Content-Length: +3", body=b"abc"), "Content-Length", id="signed"),
        pytest.param(post(b"Content-Length: 0x3", body=b"abc"), "Content-Length", id="hex"),
        pytest.param(post(b"Content-Length: -1"), "Content-Length", id="negative"),
        pytest.param(
            post(b"Content-Length: " + b"9" * 30), "Content-Length", id="a length too long to count"
        ),
        pytest.param(
            post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
            "Transfer-Encoding",
            id="chunked not last",
        ),
        pytest.param(
            post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
            "only Transfer-Encoding",
            id="a second coding",
        ),
        pytest.param(
            post(b"Transfer-Encoding: identity", body=b"abc"), "Transfer-Encoding", id="identity"
        ),
        pytest.param(
            post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), "Transfer-Encoding", id="other"
        ),
        pytest.param(
            post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
            "Transfer-Encoding",
            id="twice",
        ),
        pytest.param(
            post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), "header", id="a blank before :"
        ),
        pytest.param(
            post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), "header", id="a control"
        ),
        pytest.param(
            post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", version=b"1.0"),
            "only Transfer-Encoding",
            id="chunked in HTTP/1.0",
        ),
        pytest.param(post(b"X: a\r\n folded"), "whitespace", id="a folded header"),
        pytest.param(post(b"X: a\x00b"), "header value", id="NUL in a header"),
        pytest.param(post(b"X: a\nY: b"), "header value", id="a bare line feed"),
        pytest.param(post(b": a"), "header token", id="no header name"),
        pytest.param(post(b"Host: other"), "exactly one Host", id="two hosts"),
        pytest.param(b"GET /echo HTTP/1.1\r\n\r\n", "exactly one Host", id="no host"),
        pytest.param(b"GET /echo\r\n\r\n", "exactly one Host", id="HTTP/0.9"),
        pytest.param(post(target=b"http://other/v1"), "must be a path", id="absolute form"),
        pytest.param(post(target=b"*"), "must be a path", id="asterisk form"),
        pytest.param(post(target=b"/echo#x"), "must be a path", id="a fragment"),
        pytest.param(post(target=b"echo"), "url", id="no leading slash"),
        pytest.param(post(target="/café".encode()), "url", id="not ASCII"),
        pytest.param(
            b"CONNECT other:443 HTTP/1.1\r\nHost: t\r\n\r\n", "Upgrade and CONNECT", id="CONNECT"
        ),
        pytest.param(
            b"GET /echo HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            "Upgrade and CONNECT",
            id="upgrade",
        ),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not a valid", id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "not a valid", id="TLS"),
        pytest.param(b"FOO /echo HTTP/1.1\r\n\r\n", "method", id="an unknown method"),
    ],
)
def test_an_ambiguous_or_malformed_request_is_a_400(
    served: Served, raw: bytes, message: str
) -> None:
    reply = served.ask(raw)
    assert reply.status == 400
    assert message in reply.error["message"]
    assert reply.error["code"] == "invalid_http_request"
    assert not served.app.started.is_set()


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        pytest.param(post(target=b"/" + b"a" * 8192), 414, "uri_too_long", id="long target"),
        pytest.param(b"GET /" + b"a" * 70000, 414, "uri_too_long", id="target without end"),
        pytest.param(post(b"X: " + b"y" * 66000), 431, "headers_too_large", id="large header"),
        pytest.param(post(*[b"X: " + b"y" * 990] * 70), 431, "headers_too_large", id="large sum"),
        pytest.param(post()[:-2] + b"X: " + b"y" * 600000, 431, "headers_too_large", id="no end"),
        pytest.param(post(*[b"X: y"] * 99), 431, "too_many_headers", id="many headers"),
        pytest.param(post()[:-2] + b"X: y\r\n" * 500, 431, "too_many_headers", id="many, no end"),
    ],
)
def test_what_is_too_large_is_refused(served: Served, raw: bytes, status: int, code: str) -> None:
    reply = served.ask(raw)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert not served.app.started.is_set()


@pytest.mark.parametrize("cut", [20_000, 40_000, 60_000])
def test_large_headers_are_refused_however_they_are_cut_into_reads(
    served: Served, cut: int
) -> None:
    raw = post(*[b"X: " + b"y" * 990] * 70)
    with served.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(raw[:cut])
        time.sleep(0.05)  # so that the rest arrives in a read of its own
        connection.sendall(raw[cut:])
        reply = parsed(read_all(connection))
    assert (reply.status, reply.error["code"]) == (431, "headers_too_large")


def test_too_many_trailers_are_refused(served: Served) -> None:
    tail = b"1\r\na\r\n0\r\n" + b"X: y\r\n" * 200
    reply = served.ask(post(b"Transfer-Encoding: chunked", body=tail))
    assert (reply.status, reply.error["code"]) == (431, "too_many_headers")


def test_a_refusal_is_openais_envelope_and_closes(served: Served) -> None:
    reply = served.ask(post(b"Host: other"))
    assert reply.error["type"] == "invalid_request_error"
    assert reply.error["param"] is None
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["connection"] == "close"
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert reply.headers["x-request-id"]


def test_a_broken_body_ends_the_request_that_the_app_is_reading(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(post(b"Transfer-Encoding: chunked", target=b"/hang"))
        assert served.app.started.wait(10)
        connection.sendall(b"zz\r\n")
        assert parsed(read_all(connection)).status == 400
    assert served.app.disconnected.wait(10)


def test_nothing_is_written_into_an_answer_that_has_begun(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(post(b"Transfer-Encoding: chunked", target=b"/trickle"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"zz\r\n")
        assert b"HTTP/1.1" not in read_all(connection)
    assert served.app.disconnected.wait(10)


def test_a_bad_request_behind_a_running_one_does_not_get_its_answer(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(b"GET /hang HTTP/1.1\r\nHost: t\r\n\r\n")
        assert served.app.started.wait(10)
        connection.sendall(b"garbage\r\n\r\n")
        assert read_all(connection) == b""
    assert served.app.disconnected.wait(10)


def test_only_so_many_requests_may_wait_on_a_connection(served: Served) -> None:
    with served.connect() as connection:
        request = b"GET /hang HTTP/1.1\r\nHost: t\r\n\r\n"
        connection.sendall(request)
        assert served.app.started.wait(10)
        connection.sendall(request * 40)
        assert read_all(connection) == b""
    assert served.app.disconnected.wait(10)


# -- slow clients


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"P", id="a byte"),
        pytest.param(b"POST /echo HTTP/1.1\r\nHost: t\r\nX-Slow: ", id="half the headers"),
    ],
)
def test_headers_that_do_not_end_are_a_408(served: Served, begun: bytes) -> None:
    reply = served.ask(begun)
    assert (reply.status, reply.error["code"]) == (408, "request_timeout")
    assert "headers" in reply.error["message"]


def test_dribbling_headers_wins_no_time(served: Served) -> None:
    began = time.monotonic()
    with served.connect() as connection:
        connection.sendall(b"GET /echo HTTP/1.1\r\nHost: t\r\nX: ")
        connection.settimeout(0.05)
        received = b""
        while not received:
            connection.sendall(b"y")
            try:
                received = connection.recv(65536)
            except TimeoutError:
                assert time.monotonic() - began < 5
    assert parsed(received).status == 408


@pytest.mark.parametrize("begun", [b"", b"\r\n\r\n"], ids=["nothing", "stray line ends"])
def test_a_connection_that_asks_nothing_is_closed_without_a_word(
    served: Served, begun: bytes
) -> None:
    with served.connect() as connection:
        connection.sendall(begun)
        assert read_all(connection) == b""


@pytest.mark.slow
def test_an_idle_connection_is_closed_after_the_keep_alive_time(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(b"GET /echo HTTP/1.1\r\nHost: t\r\n\r\n")
        assert read_reply(connection).status == 200
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert 0.5 < time.monotonic() - began < 5


def test_a_slow_second_request_is_a_408_too(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(b"GET /echo HTTP/1.1\r\nHost: t\r\n\r\n")
        assert read_reply(connection).status == 200
        connection.sendall(b"GET /echo HT")
        assert parsed(read_all(connection)).status == 408


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(post(b"Content-Length: 9", target=b"/hang", body=b"abc"), id="with a length"),
        pytest.param(post(b"Transfer-Encoding: chunked", target=b"/hang"), id="chunked"),
    ],
)
def test_a_body_that_stops_is_a_408_and_the_app_is_told(served: Served, begun: bytes) -> None:
    reply = served.ask(begun)
    assert (reply.status, reply.error["code"]) == (408, "request_timeout")
    assert "body" in reply.error["message"]
    assert served.app.disconnected.wait(10)


def test_a_slow_body_that_makes_progress_is_served(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(post(b"Content-Length: 8"))
        for _ in range(8):
            time.sleep(0.1)  # twice the body's time limit in all
            connection.sendall(b"x")
        assert parsed(read_all(connection)).status == 200


def test_a_body_that_the_app_does_not_read_is_not_the_clients_fault(served: Served) -> None:
    size = 300_000
    with served.connect() as connection:
        connection.sendall(post(b"Content-Length: %d" % size, target=b"/late", body=b"x" * size))
        reply = parsed(read_all(connection))
    assert json.loads(reply.body)["bytes"] == size


def test_an_answer_takes_as_long_as_it_takes(served: Served) -> None:
    assert served.ask(post(target=b"/late")).status == 200


def test_an_early_answer_reaches_a_client_that_is_still_sending(served: Served) -> None:
    size = 4_000_000
    with served.connect() as connection:
        head = b"POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size
        connection.sendall(head + b"x" * size)
        assert read_reply(connection).status == 413
        connection.sendall(b"GET /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        assert parsed(read_all(connection)).status == 200


def test_a_refusal_reaches_a_client_that_is_still_sending(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(post(b"Host: other", b"Content-Length: 4000000", body=b"x" * 1_000_000))
        reply = parsed(read_all(connection))
    assert reply.error["code"] == "invalid_http_request"


def test_connections_are_forgotten_when_they_end(served: Served) -> None:
    for _ in range(20):
        served.ask(post())
        with served.connect():
            pass
    deadline = time.monotonic() + 10
    while served.server.server_state.connections and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not served.server.server_state.connections


def test_the_server_stops_while_a_client_dawdles() -> None:
    with serving("uvloop", Limits()) as served, served.connect() as connection:
        connection.sendall(b"GET /")
        began = time.monotonic()
        served.server.should_exit = True
        assert read_all(connection) == b""
        assert time.monotonic() - began < 5
