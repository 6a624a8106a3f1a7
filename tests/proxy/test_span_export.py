"""Spans wait in a bounded queue; what a collector does not take is told once a minute."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from proxy import span_export
from proxy.hops import NOTHING, begin_try, hop, usage_of
from proxy.span_export import MOST_WAITING, SpanQueue


class FakeExporter:
    """Counts what it is sent; `broken` refuses, `gate` holds it up."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def export(self, spans: list[ReadableSpan], /) -> SpanExportResult:
        self.gate.wait(5)
        if self.broken:
            raise OSError("http://user:password@collector")
        self.batches.append(len(spans))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.closed = True


def begin(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeExporter, TracerProvider, list[float]]:
    monkeypatch.setattr(span_export, "EVERY", 0.01)
    exporter, now = FakeExporter(), [0.0]
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SpanQueue(exporter, clock=lambda: now[0]))
    return exporter, provider, now


def end_spans(provider: TracerProvider, count: int) -> None:
    tracer = provider.get_tracer("test")
    for _ in range(count):
        tracer.start_span("x").end()


def test_what_waits_is_sent_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider, _ = begin(monkeypatch)
    end_spans(provider, 1200)
    provider.shutdown()
    assert sum(exporter.batches) == 1200 and max(exporter.batches) <= 512
    assert exporter.closed


def test_a_collector_that_hangs_makes_nobody_wait_and_the_queue_stays_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exporter, provider, _ = begin(monkeypatch)
    exporter.gate.clear()
    began = time.monotonic()
    end_spans(provider, MOST_WAITING + 1000)
    assert time.monotonic() - began < 3
    exporter.gate.set()
    with caplog.at_level(logging.WARNING):
        provider.shutdown()
    assert sum(exporter.batches) <= MOST_WAITING + 512
    assert "spans were lost" in caplog.text


def test_a_collector_that_fails_is_told_once_a_minute_without_its_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exporter, provider, now = begin(monkeypatch)
    exporter.broken = True
    with caplog.at_level(logging.WARNING):
        for at, lines in ((0.0, 1), (30.0, 1), (61.0, 2)):
            now[0] = at
            end_spans(provider, 3)
            time.sleep(0.1)
            assert len(caplog.records) == lines
        provider.shutdown()
    assert "6 spans were lost" in caplog.text
    assert "password" not in caplog.text


def test_without_a_trace_every_hop_is_the_same_nothing() -> None:
    with hop("lookup") as one, hop("encode") as other:
        assert one is other is NOTHING
        one.note("nearhit.verdict", "hit")
    assert begin_try("main", "/chat/completions", "m") is None


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, (3, 4)),
        ({"usage": {"input_tokens": 3, "output_tokens": 4}}, (3, 4)),
        ({"response": {"usage": {"input_tokens": 3, "output_tokens": 4}}}, (3, 4)),
        ({"message": {"usage": {"input_tokens": 3}}}, (3, None)),
        ({"usage": {"prompt_tokens": "many"}}, (None, None)),
        ({"usage": None}, (None, None)),
        ({"message": "text"}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_tokens_are_read_from_every_wire(
    answer: dict[str, object], told: tuple[int | None, int | None]
) -> None:
    assert usage_of(answer) == told
