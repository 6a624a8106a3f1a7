"""The ASGI side of /v1: reading requests, sending answers, noticing who hangs up.

Plain ASGI, no framework: these paths are the hot ones (FastAPI costs two to three times as much).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from proxy.answer import Answer, Streamed
from proxy.auth import Caller, Keyring, Role
from proxy.call import Call, Request
from proxy.errors import ApiError, as_api_error
from proxy.headers import request_id
from proxy.metrics import Metrics
from proxy.passthrough import ClientGone, Passthrough, Upload
from proxy.paths import normalise
from proxy.pipeline import Pipeline
from proxy.usage.counting import Usage
from proxy.wire import WIRES
from proxy.wire.base import Wire

_WATCH_AFTER = 0.02  # seconds
_TICKET = b"x-request-id"
_TRIED = "nearhit.tried"  # in a scope: a call that memory alone cannot answer, and when it came
log = logging.getLogger("nearhit.routes")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Serve = Callable[[Scope, Receive, Send], Awaitable[None]]
# Takes status, headers and the whole body; tells whether that was an answer that can be written.
Write = Callable[[int, list[tuple[bytes, bytes]], bytes], bool]
AtOnce = Callable[[Scope, bytes, Write], bool]  # scope and whole body; whether it was answered
Read = Callable[[Wire, Request, Caller], Call]


class Routes:
    """Everything under /v1."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        read: Read,
        pipeline: Pipeline,
        passthrough: Passthrough,
        usage: Usage,
        body_limit: int,
        metrics: Metrics,
    ) -> None:
        self._keyring = keyring
        self._read = read
        self._pipeline = pipeline
        self._passthrough = passthrough
        self._usage = usage
        self._body_limit = body_limit
        self._metrics = metrics

    def at_once(self, scope: Scope, body: bytes, write: Write) -> bool:
        """Answer from memory a request that is all here, if that can be; never wait.

        An exact hit takes less than the task that would answer it and the messages of ASGI. What
        was read of any other request is left in its scope.
        """
        wire = WIRES.get(scope["path"])
        if wire is None or len(body) > self._body_limit:
            return False
        started = time.perf_counter()
        try:
            headers = _joined(scope["headers"])
            request, caller, _ = self._admitted(scope, headers, request_id(headers.get(_TICKET)))
            request.raw = body
            call = self._read(wire, request, caller)
            answer = self._pipeline.replay_exact(call)
        except Exception:  # who answers it in a task comes to it again, and tells the client
            return False
        if answer is not None and isinstance(answer.body, bytes):
            answer.headers.append((b"content-length", b"%d" % len(answer.body)))
            if write(answer.status, answer.headers, answer.body):
                self._count(call, answer, time.perf_counter() - started)
                return True
        scope[_TRIED] = call, started
        return False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Whatever goes wrong before the first byte gets OpenAI's envelope."""
        headers = _joined(scope["headers"])
        ticket = request_id(headers.get(_TICKET))
        try:
            if _TRIED in scope:
                call, started = scope[_TRIED]
                ticket = call.request.request_id  # if it is ours, another than just made
                await self._answer(call, started, receive, send)
                return
            request, caller, target = self._admitted(scope, headers, ticket)
            wire = WIRES.get(scope["path"])
            if wire is not None and scope["method"] == "POST":
                await self._cacheable(wire, request, caller, receive, send)
            else:
                upload = Upload(receive)
                work = self._passthrough.answer(scope["method"], target, request, caller, upload)
                await _respond(work, upload.until_gone, send)
        except ClientGone:
            return
        except Exception as error:
            status = await _send_error(error, ticket, send)
            self._metrics.error_answers.labels(str(status)).inc()

    def _admitted(
        self, scope: Scope, headers: dict[bytes, bytes], ticket: str
    ) -> tuple[Request, Caller, str]:
        """Return the request, who sent it and its target; raise what forbids it."""
        target = normalise(scope["raw_path"], scope["query_string"])
        caller = self._keyring.caller(headers)
        if caller.role is not Role.CLIENT:
            raise ApiError(
                403,
                "an admin key does not call models: use a client key",
                type="permission_error",
                code="admin_key",
            )
        request = Request(
            raw=b"",
            header_list=scope["headers"],
            headers=headers,
            query_string=scope["query_string"],
            request_id=ticket,
        )
        return request, caller, target

    async def _cacheable(
        self, wire: Wire, request: Request, caller: Caller, receive: Receive, send: Send
    ) -> None:
        request.raw = await read_body(receive, request.headers, self._body_limit)
        started = time.perf_counter()
        call = self._read(wire, request, caller)
        answer = self._pipeline.replay_exact(call)
        if answer is not None:
            await _send_answer(answer, send)
            self._count(call, answer, time.perf_counter() - started)
            return
        await self._answer(call, started, receive, send)

    async def _answer(self, call: Call, started: float, receive: Receive, send: Send) -> None:
        """Answer a call that memory alone could not."""
        answers: list[Answer] = []  # at most one: who hangs up in the middle was answered too
        work = self._answer_into(answers, call)
        try:
            await _respond(work, lambda: _until_gone(receive), send)
        except ClientGone:
            raise
        except Exception as error:
            self._usage.failed(call, error, time.perf_counter() - started)
            raise
        finally:
            for answer in answers:
                self._count(call, answer, time.perf_counter() - started)

    def _count(self, call: Call, answer: Answer, seconds: float) -> None:
        """Count a request that has its answer: what goes wrong here is no client's business."""
        try:
            self._usage.answered(call, answer, seconds)
        except Exception:
            log.exception("request %s was not counted", call.request.request_id)

    async def _answer_into(self, answers: list[Answer], call: Call) -> Answer:
        answer = await self._pipeline.answer(call)
        answers.append(answer)
        return answer


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """Return the whole body; raise ApiError 413 beyond `limit` bytes, ClientGone on a hang-up."""
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message["body"]
        if len(body) > limit:
            raise _too_large(limit)
        return body
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message["body"])
        size += len(message["body"])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes", code="body_too_large")


def _joined(header_list: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers = dict(header_list)
    if len(headers) < len(header_list):  # rare: some header was sent twice
        headers = {}
        for name, value in header_list:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


async def _respond(
    work: Awaitable[Answer], hang_up: Callable[[], Awaitable[None]], send: Send
) -> None:
    """Send what `work` gives; stop it when the client has hung up; raise ClientGone then.

    Looking for a hang-up takes a task: most answers are there before it is worth one.
    """
    watch = _Watch(hang_up)
    try:
        await _send_answer(await work, send)
    except asyncio.CancelledError:
        if not watch.gone:
            raise
        raise ClientGone from None
    finally:
        watch.stop()


class _Watch:
    """Cancels the current task once the client has hung up."""

    def __init__(self, hang_up: Callable[[], Awaitable[None]]) -> None:
        self.gone = False
        self._hang_up = hang_up
        self._watched = asyncio.current_task()
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER, self._start)

    def _start(self) -> None:
        self._task = asyncio.create_task(self._look(), name="nearhit-hang-up")

    async def _look(self) -> None:
        await self._hang_up()
        self.gone = True
        if self._watched is not None:
            self._watched.cancel()

    def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self.gone and self._watched is not None:
            self._watched.uncancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_answer(answer: Answer, send: Send) -> None:
    start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
    body = answer.body
    if isinstance(body, bytes):
        answer.headers.append((b"content-length", b"%d" % len(body)))
        await send(start)
        await send({"type": "http.response.body", "body": body})
        return
    async with body:
        await send(start)
        if await _send_chunks(body, send):
            await send({"type": "http.response.body", "body": b""})


async def _send_chunks(body: Streamed, send: Send) -> bool:
    """Send a body as it comes; return False if it broke, so that the connection is cut short."""
    try:
        async for chunk in body.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except Exception as error:
        # Too late for a status. Leaving the body unfinished is the only honest sign.
        log.warning("an answer broke off: %s", error)
        return False
    return True


async def _send_error(error: Exception, ticket: str, send: Send) -> int:
    """Tell the client what went wrong; return the status."""
    told = as_api_error(error)
    if told.status == 500:
        told_of = {"request_id": ticket}
        log.exception("request %s failed", ticket, exc_info=error, extra=told_of)
    body = told.body()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", ticket.encode()),
    ]
    if told.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": told.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return told.status
