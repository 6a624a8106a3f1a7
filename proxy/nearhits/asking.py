"""Having a small model answer in the requested one's place, as the client asked for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import orjson

from icl.scrub import placeholders
from proxy.answer import Answer, Streamed, begun, call_headers, told
from proxy.answer_text import answer_text
from proxy.auth import Keyring
from proxy.call import Call
from proxy.head import head_of
from proxy.headers import NEAR_HIT, NO_CREDENTIAL, cache_status, credential, headers_of_another
from proxy.nearhits.cascade import (
    Check,
    NoConfidence,
    asking_confidence,
    checked,
    held_back,
)
from proxy.nearhits.schema import breaks
from proxy.outcome import Served
from proxy.upstream import UpstreamCall, Upstreams
from proxy.upstream_errors import UpstreamTimeout
from proxy.wire.base import Fields, Json
from proxy.wire.sse import BrokenStream, SseReader, payloads

_LARGEST = 1024 * 1024  # bytes of an answer that is read whole
_JSON_FORMS = ("json_object", "json_schema")
Done = Callable[[bytes], None]  # told the JSON form of an answer that ended cleanly


class Unfit(Exception):
    """The small model's answer is none that a client may get; says why."""


class Terms:
    """What the answer to one call has to be like."""

    def __init__(self, call: Call, body: dict[str, Json]) -> None:
        """`body` is what the small model gets."""
        self._call = call
        form = call.body.get("response_format")
        self._form = form.get("type") if isinstance(form, dict) else None
        self._schema = _schema_of(form) if self._form == "json_schema" else None
        # What scrubbing has put into the examples: the client has never seen it.
        shown = placeholders(json.dumps(body))
        self._foreign = shown and shown - placeholders(json.dumps(call.body))

    @property
    def need_all(self) -> bool:
        """Whether half of an answer does not tell if it is fit."""
        return self._form in _JSON_FORMS or bool(self._foreign)

    def must_fit(self, whole: Fields) -> None:
        """Raise Unfit unless this may go out: a whole answer, and in JSON where that was asked."""
        try:
            refused = self._call.wire.refuse(whole, store_tool_calls=False)
        except (ValueError, TypeError, AttributeError):
            raise Unfit("the answer cannot be read") from None
        if refused is not None:
            raise Unfit(f"the answer is {refused}")
        text = answer_text(self._call.wire.path, whole) or ""
        if self._form in _JSON_FORMS:
            self._must_be_json(text)
        if self._foreign & placeholders(text):
            raise Unfit("the answer repeats a placeholder of an example")

    def read(self, events: list[bytes]) -> Fields:
        """Return the JSON form of a stream that has ended; raise Unfit unless it may go out."""
        whole = self._call.wire.assemble(events)
        if whole is None:
            raise Unfit("the stream did not end as one should")
        self.must_fit(whole)
        return whole

    def _must_be_json(self, text: str) -> None:
        try:
            said = orjson.loads(text)
        except ValueError:
            raise Unfit("the answer is not the JSON that was asked for") from None
        if self._form == "json_object" and not isinstance(said, dict):
            raise Unfit("the answer is JSON, but not the object that was asked for")
        if breaks(said, self._schema):
            raise Unfit("the answer is JSON, but breaks the schema that was asked for")


def _schema_of(form: Json) -> Json:
    told = form.get("json_schema")
    return told.get("schema") if isinstance(told, dict) else None


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
        *,
        patience: float,
    ) -> Answer:
        """Return the answer of `small` to `body`; `done` is told it whole.

        `check` says whether an answer may go out of which the model was so sure; None: any may.
        An answer has to begin within `patience` seconds. Raises UpstreamError, Unfit or Unsure
        while nothing has gone to the client. A stream that breaks off later ends with an error
        event.
        """
        terms = Terms(call, body)
        if check is not None:
            body = asking_confidence(body)
        by = asyncio.get_running_loop().time() + patience
        async with AsyncExitStack() as stack:
            async with _begun_by(by, small):
                upstream = await stack.enter_async_context(
                    await self._upstreams.open(self._upstream_call(call, small, body))
                )
            head = head_of(upstream)
            if not head.readable or head.is_stream != call.stream:
                raise Unfit(f"{small} answered {head.status}, {head.content_type!r}")
            headers = head.headers + call_headers(call, cache_status(NEAR_HIT, head.received))
            if not call.stream:
                raw = _fit(terms, await upstream.read(_LARGEST), check)
                done(raw)
                return Answer(200, headers, raw, Served.NEAR_HIT)
            async with _begun_by(by, small):  # engines send the head before they begin to read
                first, chunks = await begun(upstream.chunks())
            if not first or _is_error(first):
                raise Unfit(f"{small} answered with a stream that is empty or an error")
            if terms.need_all:
                chunks = await _ended(terms, chunks)
            if check is not None:
                try:
                    chunks = await held_back(chunks, check, terms.read)
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
            headers=headers_of_another(request.header_list, request.request_id),
            body=json.dumps(body).encode(),
            model=small,
            credential=whose,
        )


@asynccontextmanager
async def _begun_by(moment: float, small: str) -> AsyncIterator[None]:
    """Give up what is not done at a moment of the running loop's clock."""
    try:
        async with asyncio.timeout_at(moment):
            yield
    except TimeoutError:
        raise UpstreamTimeout(f"{small} did not begin its answer in time") from None


def _fit(terms: Terms, raw: bytes, check: Check | None) -> bytes:
    """Return what the client gets of an answer.

    Raises Unfit unless it fits the terms; Unsure if the check says so.
    """
    try:
        whole: Fields = orjson.loads(raw)
    except ValueError:
        raise Unfit("the answer cannot be read") from None
    terms.must_fit(whole)
    if check is None:
        return raw
    try:
        return checked(whole, check)
    except NoConfidence as error:
        raise Unfit(str(error)) from None


async def _ended(terms: Terms, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return a stream once it has ended and fits the terms.

    Raises Unfit for another one, and for one that is too long to be kept.
    """
    kept: list[bytes] = []
    size = 0
    async for chunk in chunks:
        kept.append(chunk)
        size += len(chunk)
        if size > _LARGEST:
            raise Unfit("the stream is too long to see all of it before it goes out")
    terms.read(SseReader().feed(b"".join(kept)))

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
