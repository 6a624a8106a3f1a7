"""The composition of tracing; what makes traces is imported only where some are wanted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from proxy.observing_settings import TracingSettings
from proxy.routes import Read, Routes, Serve

if TYPE_CHECKING:
    from proxy.tracing import Tracing as Tracing

_SECONDS = 2.0  # for one message to the collector


class TracingUnavailable(Exception):
    """Traces are wanted and cannot be made; says why in one line."""


def open_tracing(
    settings: TracingSettings, environ: Mapping[str, str], stack: AsyncExitStack
) -> Tracing | None:
    """Return what traces requests, to be closed with `stack`; None: nobody wants traces.

    Raises TracingUnavailable.
    """
    if settings.endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        from proxy.span_export import SpanQueue
        from proxy.tracing import Tracing
    except ImportError:
        raise TracingUnavailable(
            "tracing.endpoint: OpenTelemetry is not installed; pip install 'nearhit[tracing]'"
        ) from None
    # It would say every time what SpanQueue says once a minute.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    exporter = OTLPSpanExporter(
        endpoint=settings.endpoint, headers=_headers(settings, environ), timeout=_SECONDS
    )
    queue = SpanQueue(exporter)
    stack.push_async_callback(asyncio.to_thread, queue.shutdown)
    return Tracing(queue, sample=settings.sample, record_text=settings.record_text)


def reading(tracing: Tracing | None, read: Read) -> Read:
    """Return a `read` that tells the request's span what it reads, where there is one."""
    if tracing is None:
        return read
    from proxy.tracing import traced_read

    return traced_read(read, record_text=tracing.record_text)


def tracing_around(tracing: Tracing | None, routes: Routes) -> Serve:
    """Return the routes with a span around each request; as they are where nobody wants any."""
    if tracing is None:
        return routes
    from proxy.tracing import TracedRoutes

    return TracedRoutes(routes, tracing)


def _headers(settings: TracingSettings, environ: Mapping[str, str]) -> dict[str, str] | None:
    if settings.headers_env is None:
        return None
    told = environ.get(settings.headers_env, "")
    pairs = [part.partition("=") for part in told.split(",") if part.strip()]
    if not pairs or not all(name.strip() and equals for name, equals, _ in pairs):
        raise TracingUnavailable(
            f"tracing.headers_env: the variable {settings.headers_env} is not name=value,..."
        )
    return {name.strip(): value.strip() for name, _, value in pairs}
