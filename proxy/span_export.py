"""Ended spans on their way to a collector: a bounded queue, and one thread that sends.

A request only appends to the queue. What does not fit is dropped and counted. The SDK's own batch
processor would start a thread anew in every forked child, and snapshots are written by such.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExportResult

MOST_WAITING = 4096  # spans
AT_ONCE = 512  # spans in one message
EVERY = 1.0  # seconds between two messages
TELL_EVERY = 60.0  # seconds between two lines about a collector that does not answer
CLOSING = 3.0  # seconds that the last spans get

log = logging.getLogger("nearhit.tracing")


class Exporter(Protocol):
    """What sends spans; blocks, and may raise anything."""

    def export(self, spans: list[ReadableSpan], /) -> SpanExportResult: ...

    def shutdown(self) -> None: ...


class SpanQueue(SpanProcessor):
    """Takes ended spans from any thread and has them sent by one of its own."""

    def __init__(
        self,
        exporter: Exporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` is in seconds."""
        self._exporter = exporter
        self._clock = clock
        self._waiting: deque[ReadableSpan] = deque()
        self._lost = 0  # since it was last told
        self._told = float("-inf")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nearhit-traces", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        return

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span, unless it was not sampled or too many wait."""
        if not span.context or not span.context.trace_flags.sampled:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
        else:
            self._waiting.append(span)

    def shutdown(self) -> None:
        """Send what waits, for three seconds at most. Blocks."""
        self._closing.set()
        self._thread.join(CLOSING)
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Spans are sent by the thread only."""
        return not self._waiting

    def _run(self) -> None:
        while not self._closing.wait(EVERY):
            self._send()
        self._send()

    def _send(self) -> None:
        for _ in range(MOST_WAITING // AT_ONCE):
            count = min(AT_ONCE, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            if not batch:
                break
            if not self._sent(batch):
                self._lost += len(batch)
                break
        if self._lost and self._clock() - self._told >= TELL_EVERY:
            log.warning("%d spans were lost: the collector does not take them", self._lost)
            self._told, self._lost = self._clock(), 0

    def _sent(self, batch: list[ReadableSpan]) -> bool:
        try:
            return self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:
            return False
