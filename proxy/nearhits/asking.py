"""Having a small model answer in the requested one's place, as the client asked for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import orjson

from proxy.answer import Answer, Streamed, begun, call_headers, told
from proxy.answer_text import answer_text
from proxy.auth import Keyring
from proxy.call import Call
from proxy.head import head_of
from proxy.headers import NEAR_HIT, NO_CREDENTIAL, cache_status, credential, upstream_headers
from proxy.nearhits.cascade import (
    Check,
    NoConfidence,
    asking_confidence,
    checked,
    held_back,
)
from proxy.outcome import Served
from proxy.upstream import UpstreamCall, Upstreams
from proxy.wire.base import Fields, Json
from proxy.wire.sse import BrokenStream, SseReader, payloads

_LARGEST = 1024 * 1024  # bytes of an answer that is read whole
Done = Callable[[bytes], None]  # told the JSON form of an answer that ended cleanly


class Unfit(Exception):
    """The small model's answer is none that a client may get; says why."""


class Asking:
    """Calls small models."""

    def __init__(self, upstreams: Upstreams, keyring: Keyring) -> None:
        self._upstreams = upstreams
        self._keyring = keyring

    async def ask(
        self,
        call: Call,
        small: str,
        body: dict[str, Json],
        done: Done,
        check: Check | None = None,
    ) -> Answer:
        """Return the answer of `small` to `body`; `done` is told it whole.

        `check` says whether an answer may go out of which the model was so sure; None: any may.
        Raises UpstreamError, Unfit or Unsure while nothing has gone to the client. A stream that
        breaks off later ends with an error event.
        """
        if check is not None:
            body = asking_confidence(body)
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(
                await self._upstreams.open(self._upstream_call(call, small, body))
            )
            head = head_of(upstream)
            if not head.readable or head.is_stream != call.stream:
                raise Unfit(f"{small} answered {head.status}, {head.content_type!r}")
            headers = head.headers + call_headers(call, cache_status(NEAR_HIT, head.received))
            if not call.stream:
                raw = _fit(call, await upstream.read(_LARGEST), check)
                done(raw)
                return Answer(200, headers, raw, Served.NEAR_HIT)
            first, chunks = await begun(upstream.chunks())
            if not first or _is_error(first):
                raise Unfit(f"{small} answered with a stream that is empty or an error")
            if _wants_json(call.body):
                chunks = await _whole_json(call, chunks)
            if check is not None:
                try:
                    chunks = await held_back(chunks, check, call.wire.assemble)
                except NoConfidence as error:
                    raise Unfit(str(error)) from None
            heard = _heard(call, chunks, done)
            stream = Streamed(told(call, heard), stack.pop_all())
            return Answer(200, headers, stream, Served.NEAR_HIT)

    def _upstream_call(self, call: Call, small: str, body: dict[str, Json]) -> UpstreamCall:
        """Return the call: no key goes to an upstream that its owner's own calls do not go to."""
        groups = {self._upstreams.group_name(each) for each in (small, call.model)}
        request = call.request
        whose = NO_CREDENTIAL
        if len(groups) == 1:
            whose = credential(
                request.header_list,
                tenant_key=call.caller.upstream_key,
                keys_configured=not self._keyring.anonymous,
            )
        return UpstreamCall(
            method="POST",
            path=call.wire.path.removeprefix("/v1"),
            headers=upstream_headers(request.header_list, request.request_id, cacheable=True),
            body=json.dumps(body).encode(),
            model=small,
            credential=whose,
        )


def _fit(call: Call, raw: bytes, check: Check | None) -> bytes:
    """Return what the client gets of an answer.

    Raises Unfit unless it is a whole one, in JSON where the client asked for JSON; Unsure if the
    check says so.
    """
    try:
        whole: Fields = orjson.loads(raw)
        refused = call.wire.refuse(whole, store_tool_calls=False)
    except (ValueError, TypeError, AttributeError):
        raise Unfit("the answer cannot be read") from None
    if refused is not None:
        raise Unfit(f"the answer is {refused}")
    if _wants_json(call.body):
        _must_be_json(call, whole)
    if check is None:
        return raw
    try:
        return checked(whole, check)
    except NoConfidence as error:
        raise Unfit(str(error)) from None


def _must_be_json(call: Call, whole: Fields) -> None:
    """Raise Unfit unless the answer's text is JSON."""
    try:
        orjson.loads(answer_text(call.wire.path, whole) or "")
    except ValueError:
        raise Unfit("the answer is not the JSON that was asked for") from None


async def _whole_json(call: Call, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return a stream whose text is JSON, once it has ended: half of one tells nothing.

    Raises Unfit for another one, and for one that is too long to be kept.
    """
    kept: list[bytes] = []
    size = 0
    async for chunk in chunks:
        kept.append(chunk)
        size += len(chunk)
        if size > _LARGEST:
            raise Unfit("the stream is too long to see whether it is JSON")
    whole = call.wire.assemble(SseReader().feed(b"".join(kept)))
    if whole is None:
        raise Unfit("the stream cannot be read")
    _must_be_json(call, whole)

    async def again() -> AsyncIterator[bytes]:
        for chunk in kept:
            yield chunk

    return again()


def _is_error(first: bytes) -> bool:
    """Whether a stream begins with an error event, as of an engine that is overloaded."""
    try:
        for _ in payloads(SseReader().feed(first)):
            pass
    except BrokenStream:
        return True
    return False


def _wants_json(body: dict[str, Json]) -> bool:
    form = body.get("response_format")
    return isinstance(form, dict) and form.get("type") in ("json_object", "json_schema")


async def _heard(call: Call, chunks: AsyncIterator[bytes], done: Done) -> AsyncIterator[bytes]:
    """Yield a stream, and tell `done` what it came to if it ended cleanly."""
    kept: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size <= _LARGEST:
            kept.append(chunk)
        yield chunk
    if size > _LARGEST:
        return
    whole = call.wire.assemble(SseReader().feed(b"".join(kept)))
    if whole is not None:
        done(orjson.dumps(whole))
