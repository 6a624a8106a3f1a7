"""A collector that takes traces over OTLP/HTTP and keeps what it was sent."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Span(NamedTuple):
    """A span as it arrived."""

    name: str
    kind: int  # 2: server, 3: client
    trace: str
    id: str
    parent: str  # "": none
    failed: bool
    facts: dict[str, Any]


class Collector:
    """The server; `raw` is every message, `headers` those of the last one."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.headers: dict[str, str] = {}
        self._port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def spans(self) -> list[Span]:
        """Return all spans that have arrived, the first to begin first."""
        found = []
        for message in self.raw:
            request = ExportTraceServiceRequest.FromString(message)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    found += list(scope.spans)
        return [_told(span) for span in sorted(found, key=lambda s: s.start_time_unix_nano)]

    async def _take(self, request: web.Request) -> web.Response:
        assert request.path == "/v1/traces"
        self.raw.append(await request.read())
        self.headers = dict(request.headers)
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()


def _told(span: Any) -> Span:
    facts = {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }
    return Span(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.status.code == 2,
        facts,
    )
