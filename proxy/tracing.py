"""OpenTelemetry: spans of a request and its hops. Imported only where traces are wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

import orjson
from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy.auth import Caller
from proxy.call import Call, Request
from proxy.hops import Headers, Value, traced, usage_of
from proxy.routes import Read, Receive, Routes, Scope, Send
from proxy.span_export import SpanQueue
from proxy.wire import WIRES
from proxy.wire.base import Wire

_LONGEST_TEXT = 16 * 1024  # characters of what users ask, where that is recorded
_LARGEST_ANSWER = 1024 * 1024  # bytes of an answer in which tokens are looked for
_LONGEST_NAME = 256  # characters of a model's name
_LARGEST = 2**62  # what does not fit into a span's integers is left out
_CARRIED = frozenset({"traceparent", "tracestate"})
_PARAMETERS = ("max_tokens", "temperature", "top_p", "seed")
_TEXTS = ("messages", "input", "prompt")
_propagator = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans, and has them sent to a collector in the background."""

    def __init__(self, queue: SpanQueue, *, sample: float, record_text: bool) -> None:
        self.record_text = record_text
        resource = {"service.name": "nearhit", "service.version": version("nearhit")}
        self._provider = TracerProvider(
            resource=Resource.create(resource),
            # Whoever calls us decides for its own trace, unless nothing is wanted here.
            sampler=ParentBased(TraceIdRatioBased(sample)) if sample else ALWAYS_OFF,
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attributes=64, max_events=8),
        )
        self._provider.add_span_processor(queue)
        self.tracer = self._provider.get_tracer("nearhit", version("nearhit"))

    def hop(self, name: str) -> _Hop:
        return _Hop(self, name)

    def upstream(self, name: str, path: str, model: str | None) -> _Try:
        span = self.tracer.start_span(f"upstream {name}", kind=SpanKind.CLIENT)
        span.set_attribute("nearhit.upstream", name)
        if model is not None and span.is_recording():
            operation = operation_of(path.partition("?")[0])
            span.update_name(f"{operation} {model[:_LONGEST_NAME]}")
            span.set_attribute("gen_ai.operation.name", operation)
            span.set_attribute("gen_ai.request.model", model[:_LONGEST_NAME])
        return _Try(span)


class _Hop:
    """A hop that is a span, the current one while it is entered."""

    __slots__ = ("_entered", "_span", "_tracing", "_name")

    def __init__(self, tracing: Tracing, name: str) -> None:
        self._tracing, self._name = tracing, name

    def note(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, value)

    def note_answer(self, answer: Mapping[str, Any]) -> None:
        note_answer(self._span, answer)

    def __enter__(self) -> Self:
        self._span = self._tracing.tracer.start_span(self._name)
        self._entered = otel.use_span(
            self._span, record_exception=False, set_status_on_exception=False
        )
        self._entered.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered.__exit__(None, None, None)
        if kind is not None:
            _fail(self._span, kind.__name__)
        self._span.end()


class _Try:
    """A try upstream that is a span: it ends when the answer was read or given up."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def headers(self, sent: Headers) -> Headers:
        theirs = any(name in _CARRIED for name, _ in sent)
        if theirs and not self._span.is_recording():
            return sent  # what is not recorded here stays the caller's
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, otel.set_span_in_context(self._span))
        rest = [(name, value) for name, value in sent if name not in _CARRIED]
        return [*rest, *carrier.items()]

    def ended(self, *, status: int, outcome: str) -> None:
        span = self._span
        span.set_attribute("nearhit.outcome", outcome)
        if status:
            span.set_attribute("http.response.status_code", status)
        if outcome not in ("ok", "cancelled"):
            _fail(span, outcome)
        elif status >= 400:
            _fail(span, str(status))
        span.end()


def note_answer(span: Span, answer: Mapping[str, Any]) -> None:
    """Add the model and the tokens that an answer tells."""
    model = answer.get("model")
    if isinstance(model, str):
        span.set_attribute("gen_ai.response.model", model[:_LONGEST_NAME])
    for direction, count in zip(("input", "output"), usage_of(answer), strict=True):
        if count is not None:
            span.set_attribute(f"gen_ai.usage.{direction}_tokens", count)


def _fail(span: Span, what: str) -> None:
    # No description: an exception's own words may hold what was asked.
    span.set_attribute("error.type", what)
    span.set_status(Status(StatusCode.ERROR))


def traced_read(read: Read, *, record_text: bool) -> Read:
    """Return a `read` that tells the request's span what it has read."""

    def reading(wire: Wire, request: Request, caller: Caller) -> Call:
        call = read(wire, request, caller)
        span = otel.get_current_span()
        if span.is_recording():
            _describe(span, call)
            if record_text:
                asked = [call.body[name] for name in _TEXTS if name in call.body]
                told = json.dumps(asked[:1], ensure_ascii=False)[1:-1]
                span.set_attribute("gen_ai.input.messages", told[:_LONGEST_TEXT])
        return call

    return reading


def _describe(span: Span, call: Call) -> None:
    operation, model = operation_of(call.wire.path), call.model[:_LONGEST_NAME]
    span.update_name(f"{operation} {model}")
    span.set_attribute("gen_ai.operation.name", operation)
    span.set_attribute("gen_ai.request.model", model)
    span.set_attribute("gen_ai.request.stream", call.stream)
    for name in _PARAMETERS:
        if isinstance(value := call.body.get(name), int | float) and abs(value) < _LARGEST:
            span.set_attribute(f"gen_ai.request.{name}", value)


def operation_of(path: str) -> str:
    """Return the GenAI conventions' name of what a path below /v1, or below a base URL, does."""
    if path.endswith("/embeddings"):
        return "embeddings"
    chat = path.endswith(("/chat/completions", "/messages", "/responses"))
    return "text_completion" if path.endswith("/completions") and not chat else "chat"


class TracedRoutes:
    """/v1 with a span around each request, which continues the caller's trace."""

    def __init__(self, routes: Routes, tracing: Tracing) -> None:
        self._routes = routes
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        known = scope["path"] in WIRES
        route = scope["path"] if known else "/v1/*"
        span = self._tracing.tracer.start_span(
            f"{scope['method']} {route}",
            context=_context_of(scope["headers"]),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "http.route": route},
        )
        token = traced.set(self._tracing)
        try:
            with otel.use_span(span, record_exception=False, set_status_on_exception=False):
                told = _Told(span, send) if span.is_recording() else None
                await self._routes(scope, receive, send if told is None else told.send)
                if told is not None:
                    told.done()
        finally:
            traced.reset(token)
            span.end()


def _context_of(headers: list[tuple[bytes, bytes]]) -> Context:
    """Return the caller's trace context; an empty one where there is none that can be read."""
    carrier = {
        name.decode("ascii"): value.decode("latin-1")
        for name, value in headers
        if name in (b"traceparent", b"tracestate")
    }
    return _propagator.extract(carrier, Context())


class _Told:
    """What an answer tells while it goes out: its status, what our headers say, its tokens."""

    def __init__(self, span: Span, send: Send) -> None:
        self._span = span
        self._send = send
        self._streams = self._started = False
        self._last = b""  # what the answer's model and tokens are read from

    async def send(self, message: Any) -> None:
        """Send a message on, and look at it."""
        if message["type"] == "http.response.start":
            self._begin(message["status"], dict(message["headers"]))
        else:
            body = message.get("body", b"")
            if len(body) <= _LARGEST_ANSWER and b'"usage"' in body:
                self._last = body
        await self._send(message)

    def _begin(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        span = self._span
        self._started = True
        self._streams = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            _fail(span, str(status))
        for header, name in (
            (b"cache-status", "nearhit.cache_status"),
            (b"x-nearhit-category", "nearhit.category"),
            (b"x-request-id", "nearhit.request_id"),
        ):
            if header in headers:
                span.set_attribute(name, headers[header].decode("latin-1"))
        if b"x-nearhit-similarity" in headers:
            span.set_attribute("nearhit.similarity", float(headers[b"x-nearhit-similarity"]))

    def done(self) -> None:
        """Note what the whole answer told."""
        if not self._started:  # the client hung up
            _fail(self._span, "cancelled")
        for piece in _pieces(self._last, streams=self._streams):
            note_answer(self._span, piece)


def _pieces(body: bytes, *, streams: bool) -> list[Mapping[str, Any]]:
    lines = [body]
    if streams:
        found = (line[5:] for line in body.split(b"\n") if line.startswith(b"data:"))
        lines = [line for line in found if b'"usage"' in line]
    pieces: list[Mapping[str, Any]] = []
    for line in lines:
        try:
            piece = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(piece, dict):
            pieces.append(piece)
    return pieces
