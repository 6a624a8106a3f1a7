"""uvicorn's HTTP/1.1 protocol with the limits that a server facing strangers needs.

What it adds: limits on the request line and the headers, time limits on a request's arrival, and
refusal of every request whose extent or target two servers could read differently. httptools
itself refuses conflicting, repeated and malformed Content-Length, Content-Length beside
Transfer-Encoding, line folding and bare line ends. Every refusal is OpenAI's envelope.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from proxy.errors import envelope
from proxy.headers import request_id
from proxy.routes import AtOnce, Scope

_SWEEP_EVERY = 1.0  # seconds
_SHORT = 64 * 1024  # bytes of a body that a client sends right behind the head
_LINGER = 5.0  # seconds in which a client may still read our refusal while it sends


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may take on its way in."""

    url_bytes: int = 8 * 1024
    header_bytes: int = 64 * 1024  # names and values together
    header_count: int = 100
    pipelined: int = 16  # further requests that wait while one is answered
    header_timeout: float = 10.0  # seconds until the headers are complete
    body_timeout: float = 30.0  # seconds without any progress of the body


class _Refused(Exception):
    """This request is not served; raised inside the parser's callbacks."""

    def __init__(self, status: HTTPStatus, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


# What is arriving on a connection. Plain numbers: looked at several times a request.
_BETWEEN = 0  # nothing
_HEAD = 1
_BODY = 2
_REFUSED = 3  # something that is read and discarded


class HeadWithBody:
    """What a response is written to: its head waits for the first of its body, or for the loop.

    uvicorn writes the two one after the other, which are two system calls and two packets.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write what comes after a head with it; let a head wait until nothing else is to do."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self.flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Write what waits, and close."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._transport.is_closing()

    def flush(self) -> None:
        """Write a head that waits."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `protocol_class` makes the type that a server uses."""

    limits: ClassVar[Limits] = Limits()
    sweep_every: ClassVar[float] = _SWEEP_EVERY
    _sweep_timer: ClassVar[asyncio.TimerHandle | None] = None

    _stage = _BETWEEN
    _begun = 0  # requests that have begun to arrive
    _read_bytes = 0  # of the read that is being parsed
    _began_in = 0  # bytes of the read in which the head began
    _head_bytes = 0  # of an unfinished head, without that read
    _running: RequestResponseCycle | None = None  # since requests were pipelined
    _deadline: float | None = None  # loop time by which the client must have moved on
    at_once: ClassVar[AtOnce | None] = None  # answers what needs no task
    _fresh: tuple[RequestResponseCycle, Any] | None = None  # has arrived, and no task has begun it
    _awaited = False  # whether so little of its body is to come that its task may wait for it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._joined = HeadWithBody(transport, self.loop)
        self._deadline = self.loop.time() + self.limits.header_timeout
        self._arm(self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn tells the newest request only, and the one being answered may be an older one.
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
        self.pipeline.clear()
        self._fresh = None
        super().connection_lost(exc)

    # -- one sweeper a server looks at every connection once a second: no timer a request

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        kind = type(self)
        if kind._sweep_timer is None:
            kind._sweep_timer = loop.call_later(kind.sweep_every, kind._sweep, self)

    def _sweep(self) -> None:
        type(self)._sweep_timer = None
        now = self.loop.time()
        for connection in list(self.connections):
            if isinstance(connection, GuardedProtocol):
                connection._check(now)
        if self.connections:
            self._arm(self.loop)

    def _check(self, now: float) -> None:
        if self._deadline is None or now < self._deadline:
            return
        if self._stage == _REFUSED:
            self.transport.abort()
        elif self._stage == _BODY:
            seconds = self.limits.body_timeout
            if self.flow.read_paused:  # nobody reads: that is not the client's doing
                self._deadline = now + seconds
            else:
                self._time_out(f"the body made no progress for {seconds:g} seconds")
        elif self.cycle is None or self.cycle.response_complete:
            seconds = self.limits.header_timeout
            self._time_out(f"the headers were not complete after {seconds:g} seconds")

    def _time_out(self, message: str) -> None:
        if self._stage == _BETWEEN:
            self.transport.close()  # it has asked nothing, so there is nothing to answer
        else:
            self._refuse(_Refused(HTTPStatus.REQUEST_TIMEOUT, message, "request_timeout"))

    # -- what arrives

    def data_received(self, data: bytes) -> None:
        if self._stage == _REFUSED:
            return
        begun = self._begun
        self._read_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._refuse(_refusal(error))
            return
        self._begin_fresh()
        if self._stage == _HEAD:
            self._head_goes_on(begun)
        elif self._stage == _BODY and not self.cycle.response_complete:
            self._deadline = self.loop.time() + self.limits.body_timeout
            if len(self.headers) > self.limits.header_count:  # trailers
                self._refuse(_too_many_headers(self.limits))

    def _head_goes_on(self, begun: int) -> None:
        if self._begun > begun:
            self._deadline = self.loop.time() + self.limits.header_timeout
        else:
            self._head_bytes += self._read_bytes
        try:
            self._check_sizes(self._head_bytes)
        except _Refused as refused:
            self._refuse(refused)

    def _check_sizes(self, head_bytes: int) -> None:
        limits = self.limits
        if len(self.url) > limits.url_bytes:
            message = f"the request target is longer than {limits.url_bytes} bytes"
            raise _Refused(HTTPStatus.REQUEST_URI_TOO_LONG, message, "uri_too_long")
        if len(self.headers) > limits.header_count:
            raise _too_many_headers(limits)
        if head_bytes > limits.header_bytes:
            raise _Refused(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the headers are larger than {limits.header_bytes} bytes",
                "headers_too_large",
            )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._stage = _HEAD
        self._begun += 1
        self._began_in = self._read_bytes
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        # At most: the reads in which it began and ended may hold more than this head.
        head_bytes = self._began_in + self._head_bytes + self._read_bytes
        if head_bytes > self.limits.header_bytes:
            head_bytes = sum(len(name) + len(value) for name, value in self.headers)
        self._check_sizes(head_bytes)
        self._check_framing([name for name, _ in self.headers])
        if not self.url.startswith(b"/") or b"#" in self.url:
            raise _bad_request("the request target must be a path, as in POST /v1/chat/completions")
        if len(self.pipeline) >= self.limits.pipelined:
            raise _bad_request("too many requests wait on this connection")
        before = self.cycle
        super().on_headers_complete()
        self.cycle.transport = self._joined  # type: ignore[assignment]  # all it uses of one
        if len(self.pipeline) == 1:
            self._running = before
        self._stage = _BODY
        self._awaited = type(self).at_once is not None and self._is_short()
        self.headers = []  # trailers are counted and forgotten: nobody may send headers late

    def _is_short(self) -> bool:
        """Whether the request says that its body is one that mostly comes in a piece or two."""
        if self.expect_100_continue:
            return False
        length = dict(self.headers).get(b"content-length", b"")
        return length.isdigit() and int(length) <= _SHORT

    def _check_framing(self, names: list[bytes]) -> None:
        if self.parser.should_upgrade():
            raise _bad_request("Upgrade and CONNECT are not supported")
        hosts = names.count(b"host")
        if hosts != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            raise _bad_request("exactly one Host header is needed")
        if b"transfer-encoding" in names:
            coding = self.headers[names.index(b"transfer-encoding")][1]
            if coding.lower() != b"chunked" or self.parser.get_http_version() != "1.1":
                raise _bad_request("the only Transfer-Encoding is chunked, in HTTP/1.1")

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._stage = _BETWEEN
        self._deadline = None
        if self._fresh is not None and self._fresh[0] is self.cycle and self._answered_at_once():
            self._fresh = None

    # -- what needs no task

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._fresh = cycle, app  # until all that came with it has been read

    def _begin_fresh(self) -> None:
        """Have a task answer the request that has come, unless the rest of it will soon."""
        if self._fresh is None or (self._stage == _BODY and self._awaited):
            return
        (cycle, app), self._fresh = self._fresh, None
        super()._start_asgi_task(cycle, app)

    def _answered_at_once(self) -> bool:
        cycle, at_once = self.cycle, type(self).at_once
        if at_once is None or self.scope["method"] != "POST" or not cycle.keep_alive:
            return False
        if cycle.waiting_for_100_continue or self.flow.write_paused or self.transport.is_closing():
            return False
        return at_once(cast(Scope, self.scope), bytes(cycle.body), self._write_whole)

    def _write_whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Write an answer; False: something in its head would end it, which is uvicorn's to say."""
        told = self.server_state.default_headers + headers
        head = b"\r\n".join([STATUS_LINE[status][:-2], *map(b": ".join, told), b"", b""])
        ends = len(told) + 2
        if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
            return False
        self._joined.flush()
        self.transport.write(head + body)
        self.cycle.response_started = self.cycle.response_complete = True
        self.on_response_complete()
        return True

    def on_response_complete(self) -> None:
        # As uvicorn has it, but for the keep-alive time, which needs no timer a request here.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._running, app = self.pipeline.pop()
            super()._start_asgi_task(self._running, app)
        elif self._stage == _BETWEEN:
            self._deadline = self.loop.time() + self.timeout_keep_alive
        elif self._stage == _BODY:
            # Answered early (too large, not allowed): closing now could destroy the answer
            # before the client has read it, so the rest is read and discarded for a while.
            self._deadline = self.loop.time() + _LINGER

    # -- refusing

    def send_400_response(self, msg: str) -> None:
        self._refuse(_bad_request(msg))

    def _refuse(self, refused: _Refused) -> None:
        """Answer with an error if no other answer is under way, and close."""
        stage, self._stage = self._stage, _REFUSED
        self._fresh = None
        self._deadline = self.loop.time() + _LINGER
        cycle = self.cycle
        mine = stage == _BODY and not cycle.response_complete
        busy = bool(self.pipeline) or (
            cycle is not None
            and not cycle.response_complete
            and (not mine or cycle.response_started)
        )
        if mine:
            cycle.disconnected = True
            cycle.message_event.set()
        if busy or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write(self._error_response(refused))
        if self.transport.can_write_eof():
            self.transport.write_eof()  # and go on reading until the client has seen it
            self.flow.resume_reading()
        else:
            self.transport.close()

    def _error_response(self, refused: _Refused) -> bytes:
        body = envelope(str(refused), type="invalid_request_error", code=refused.code)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-request-id", request_id(None).encode()),
        ]
        lines = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
        return STATUS_LINE[refused.status] + lines + b"\r\n" + body


def _bad_request(message: str) -> _Refused:
    return _Refused(HTTPStatus.BAD_REQUEST, message, "invalid_http_request")


def _too_many_headers(limits: Limits) -> _Refused:
    return _Refused(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"there are more than {limits.header_count} headers",
        "too_many_headers",
    )


def _refusal(error: BaseException) -> _Refused:
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, _Refused):
            return cause
    if isinstance(error, httptools.HttpParserUpgrade):
        return _bad_request("Upgrade and CONNECT are not supported")
    return _bad_request(f"this is not a valid HTTP/1.1 request: {error}")


def protocol_class(
    limits: Limits, *, sweep_every: float = _SWEEP_EVERY, at_once: AtOnce | None = None
) -> type[GuardedProtocol]:
    """Return the protocol of one server, for `uvicorn.Config(http=...)`; two need two.

    `at_once` is asked to answer a POST whose body is short and all here; a task answers the rest.
    """
    told: dict[str, Any] = {"limits": limits, "sweep_every": sweep_every}
    if at_once is not None:
        told["at_once"] = staticmethod(at_once)
    return type("Protocol", (GuardedProtocol,), told)
