"""A real HTTP server on loopback that plays OpenAI's and Anthropic's APIs for the tests.

    async with FakeUpstream() as upstream:
        upstream.play(Script(status=503), Script(text="at last"))   # the next two calls
        ...  # talk to upstream.base_url
        assert [call.body["model"] for call in upstream.calls] == [...]

Every call gets its own serial number, id and text, so an answer tells which call it came from.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from multidict import CIMultiDictProxy

from tests import fake_answers as answers
from tests.fake_answers import Json, Say, Script

__all__ = ["Call", "FakeUpstream", "Script"]

WIRES: dict[str, tuple[Callable[[Say], Json], Callable[[Say], Iterator[bytes]] | None]] = {
    "/v1/chat/completions": (answers.chat_json, answers.chat_events),
    "/v1/completions": (answers.completions_json, answers.completions_events),
    "/v1/responses": (answers.responses_json, answers.responses_events),
    "/v1/messages": (answers.messages_json, answers.messages_events),
    "/v1/embeddings": (answers.embeddings_json, None),
}


@dataclass(slots=True)
class Call:
    """One request as it arrived; `raw` grows while an upload is still coming in."""

    serial: int
    method: str
    target: str  # path and query as sent
    headers: CIMultiDictProxy[str]
    raw: bytearray = field(default_factory=bytearray)
    body: Json = None  # the parsed JSON, if it was JSON
    complete: bool = False  # the whole body arrived

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class FakeUpstream:
    """The server, what it was asked, and what it is to do next."""

    def __init__(self, name: str = "fake", *, models: tuple[str, ...] = ("gpt-4o-mini",)) -> None:
        self.name = name
        self.models = models
        self.calls: list[Call] = []
        self.open_now = 0  # calls being answered
        self.cancelled = 0  # calls whose client hung up before the end
        self._peers: set[object] = set()
        self.default = Script()
        self.choose: Callable[[Call], Script | None] | None = None  # asked after the queue
        self.release = asyncio.Event()  # lets calls past their `hold_after`
        self.files: dict[str, bytes] = {}
        self.port = 0
        self._queue: deque[Script] = deque()
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def connections(self) -> int:
        """How many connections calls have come over so far."""
        return len(self._peers)

    def play(self, *scripts: Script) -> None:
        """Queue what happens to the next calls, one script a call."""
        self._queue.extend(scripts)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition on this fake holds, as in `lambda: fake.cancelled == 1`."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(holds)

    async def start(self) -> None:
        """Listen on a free port, or after `stop` on the same one again."""
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close every connection and refuse new ones."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        call = Call(len(self.calls) + 1, request.method, request.raw_path, request.headers)
        self.calls.append(call)
        if request.transport is not None:
            self._peers.add(request.transport.get_extra_info("peername"))
        self.open_now += 1
        try:
            await self._tell()
            async for chunk in request.content.iter_any():
                call.raw += chunk
                await self._tell()
            call.complete = True
            if request.content_type == "application/json" and call.raw:
                call.body = _parsed(call.raw)
            return await self._act(request, call)
        except (asyncio.CancelledError, ConnectionError):
            self.cancelled += 1
            raise
        finally:
            self.open_now -= 1
            await asyncio.shield(self._tell())

    def _script(self, call: Call) -> Script:
        if self._queue:
            return self._queue.popleft()
        return (self.choose(call) if self.choose else None) or self.default

    async def _act(self, request: web.Request, call: Call) -> web.StreamResponse:
        script = self._script(call)
        if script.delay:
            await asyncio.sleep(script.delay)
        if script.drop:
            return _hang_up(request)
        if script.body is not None:
            kind = script.content_type or "application/json"
            return await self._send(request, script, script.body, kind)
        if script.status >= 400:
            return await self._send(request, script, _error(script, call))
        if call.path in WIRES and isinstance(call.body, dict):
            return await self._speak(request, call, script)
        return await self._other(request, call, script)

    async def _speak(self, request: web.Request, call: Call, script: Script) -> web.StreamResponse:
        model = str(call.body.get("model"))
        asked = answers.last_user_text(call.body)
        say = Say(f"{self.name}-{call.serial}", call.serial, model, asked, script, call.body)
        as_json, as_events = WIRES[call.path]
        if call.body.get("stream") and as_events is not None:
            return await self._stream(request, script, self._events(script, as_events(say)))
        return await self._send(request, script, json.dumps(as_json(say)).encode())

    async def _send(
        self, request: web.Request, script: Script, body: bytes, kind: str = "application/json"
    ) -> web.StreamResponse:
        headers = {"Content-Type": script.content_type or kind} | script.headers
        if script.cut_after is None:
            return web.Response(status=script.status, body=body, headers=headers)
        response = web.StreamResponse(status=script.status, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: script.cut_after])
        return _hang_up(request, response)

    async def _events(self, script: Script, events: Iterator[bytes]) -> AsyncIterator[bytes | None]:
        """Yield each event in its time; None where the connection is to be closed."""
        every = list(events)
        number = 0
        while True:
            for event in every[: -1 if script.endless else None]:
                if number == script.cut_after:
                    yield None
                    return
                if number == script.end_after:
                    return
                if number == script.error_after:
                    yield _error_event(event)
                    return
                if number == script.hold_after:
                    await self.release.wait()
                if script.token_delay:
                    await asyncio.sleep(script.token_delay)
                yield event
                number += 1
            if not script.endless:
                return
            await asyncio.sleep(0)

    async def _stream(
        self, request: web.Request, script: Script, events: AsyncIterator[bytes | None]
    ) -> web.StreamResponse:
        kind = script.content_type or "text/event-stream; charset=utf-8"
        headers = {"Content-Type": kind} | script.headers
        response = web.StreamResponse(status=script.status, headers=headers)
        await response.prepare(request)
        async for event in events:
            if event is None:
                return _hang_up(request, response)
            size = script.fragment or len(event)
            for start in range(0, len(event), size):
                await response.write(event[start : start + size])
                if script.fragment:
                    await asyncio.sleep(0)
        await response.write_eof()
        return response

    async def _other(self, request: web.Request, call: Call, script: Script) -> web.StreamResponse:
        parts = call.path.strip("/").split("/")
        if parts == ["v1", "models"]:
            found: Json = {"object": "list", "data": [_model(self.name, m) for m in self.models]}
        elif parts == ["v1", "files"] and call.method == "POST":
            found = self._upload(request, call)
        elif parts[:2] == ["v1", "files"] and parts[3:] == ["content"]:
            if parts[2] not in self.files:
                return await self._send(request, Script(status=404), _error(script, call))
            return await self._download(request, script, self.files[parts[2]])
        else:
            found = {"serial": call.serial, "method": call.method, "target": call.target}
            found["bytes"] = len(call.raw)
        return await self._send(request, script, json.dumps(found).encode())

    def _upload(self, request: web.Request, call: Call) -> Json:
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        form = BytesParser().parsebytes(head + call.raw)
        for part in form.walk():
            if part.get_param("name", header="content-disposition") == "file":
                file_id = f"file-{self.name}-{call.serial}"
                self.files[file_id] = _payload(part)
                named = {"id": file_id, "object": "file", "filename": part.get_filename()}
                size = len(self.files[file_id])
                return named | {"bytes": size, "created_at": call.serial, "purpose": "batch"}
        raise web.HTTPBadRequest(text="no file field")

    async def _download(
        self, request: web.Request, script: Script, content: bytes
    ) -> web.StreamResponse:
        async def pieces() -> AsyncIterator[bytes | None]:
            for start in range(0, len(content), 65536):
                yield content[start : start + 65536]

        kind = {"Content-Type": "application/octet-stream"}
        return await self._stream(
            request, Script(headers=kind | script.headers, content_type=None), pieces()
        )


def _hang_up(
    request: web.Request, response: web.StreamResponse | None = None
) -> web.StreamResponse:
    """Close the connection with whatever was written so far; the client sees it end early."""
    assert request.transport is not None
    request.transport.close()
    return response or web.Response()


def _payload(part: Message[Any, Any]) -> bytes:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def _parsed(raw: bytearray) -> Json:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _model(owner: str, name: str) -> Json:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": owner}


def _error(script: Script, call: Call) -> bytes:
    kind = "server_error" if script.status >= 500 else "invalid_request_error"
    message = f"scripted {script.status} of call {call.serial}"
    error: Json = {"message": message, "type": kind, "param": None, "code": None}
    if call.path == "/v1/messages":
        return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    return json.dumps({"error": error}).encode()


def _error_event(like: bytes) -> bytes:
    """An error event in the wire of the event whose place it takes."""
    error: Json = {"message": "scripted error", "type": "server_error", "param": None, "code": None}
    if not like.startswith(b"event: "):
        return answers.sse({"error": error})
    return answers.sse({"type": "error", "error": error}, "error")
