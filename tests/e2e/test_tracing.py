"""Traces: what a collector gets of each kind of request, and what it never gets."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy import span_export, tracing_root
from tests.e2e.conftest import Stage
from tests.e2e.ground import chat
from tests.fake_upstream import Script
from tests.harness import ROOT, Proxy, free_port, policies, proxy_running, settings_for
from tests.otlp import Collector, Span
from tests.test_architecture import imports

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
SERVER, CLIENT = 2, 3
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=x"}


@asynccontextmanager
async def traced(stage: Stage, endpoint: str, **tracing: Any) -> AsyncIterator[Proxy]:
    """Serve with traces; when this ends, the collector has them all."""
    told = {"endpoint": endpoint, **tracing}
    settings = settings_for(stage.data_dir, stage.upstream.base_url, tracing=told)
    book = policies({"name": "default", "hit_threshold": 0.93})
    async with proxy_running(settings, book, environ={"COLLECTOR": "x-team=cache"}) as proxy:
        yield proxy


async def ask(stage: Stage, proxy: Proxy, question: str, **more: Any) -> str:
    """Ask; return Cache-Status once the answer can hit."""
    headers = more.pop("headers", {})
    body = {"model": "m", "messages": [{"role": "user", "content": question}], **more}
    url = f"{proxy.base_url}/chat/completions"
    async with stage.http.post(url, json=body, headers=headers) as answer:
        await answer.read()
        await asyncio.sleep(0.1)
        return answer.headers.get("cache-status", "")


def sampled(traceparent: str) -> bool:
    return bool(int(traceparent.rpartition("-")[2], 16) & 1)


def by_trace(spans: list[Span]) -> list[dict[str, Span]]:
    """Return the spans of each request by their names' first word, in the order of requests."""
    traces: dict[str, dict[str, Span]] = {}
    for span in spans:
        role = "request" if span.kind == SERVER else "try" if span.kind == CLIENT else span.name
        traces.setdefault(span.trace, {})[role] = span
    return list(traces.values())


async def test_each_kind_of_request_is_a_tree_of_its_hops(stage: Stage) -> None:
    async with Collector() as collector:
        async with traced(stage, collector.endpoint, headers_env="COLLECTOR") as proxy:
            for question in (QUESTION, QUESTION, REPHRASED):
                await ask(stage, proxy, question)
            await ask(stage, proxy, "What do swifts eat?", stream=True)
            await ask(stage, proxy, "What do swifts eat?", stream=True)
        miss, exact, semantic, stream, again = by_trace(collector.spans())
    assert miss.keys() == {"request", "lookup", "encode", "try", "admit"}
    assert exact.keys() == again.keys() == {"request"}
    assert semantic.keys() == {"request", "lookup", "encode"}
    assert stream.keys() == miss.keys()
    for tree in (miss, stream):
        root = tree["request"]
        assert (root.name, root.kind, root.parent, root.failed) == ("chat m", SERVER, "", False)
        assert tree["lookup"].parent == root.id and tree["encode"].parent == tree["lookup"].id
        assert tree["try"].parent == root.id and tree["admit"].parent == root.id
        assert tree["try"].facts["nearhit.upstream"] == "fake"
        assert tree["try"].facts["http.response.status_code"] == 200
        assert tree["lookup"].facts["nearhit.verdict"] == "miss"
        assert tree["admit"].facts["nearhit.outcome"] == "stored"
        assert tree["admit"].facts["gen_ai.usage.output_tokens"] > 0
    facts = miss["request"].facts
    assert facts["http.request.method"] == "POST" and facts["http.response.status_code"] == 200
    assert facts["http.route"] == "/v1/chat/completions"
    assert facts["gen_ai.operation.name"] == "chat" and facts["gen_ai.request.model"] == "m"
    assert facts["gen_ai.response.model"] and facts["gen_ai.usage.input_tokens"] > 0
    assert facts["nearhit.cache_status"] == "nearhit; fwd=miss"
    assert exact["request"].facts["gen_ai.usage.input_tokens"] > 0
    assert "detail=exact" in exact["request"].facts["nearhit.cache_status"]
    assert "detail=semantic" in semantic["request"].facts["nearhit.cache_status"]
    assert 0.93 <= semantic["lookup"].facts["nearhit.similarity"] < 1
    assert semantic["lookup"].facts["nearhit.category"] == "default"
    assert stream["request"].facts["gen_ai.request.stream"] is True
    assert collector.headers["x-team"] == "cache"


async def test_a_callers_trace_goes_on_here_and_upstream(stage: Stage) -> None:
    async with Collector() as collector:
        async with traced(stage, collector.endpoint) as proxy:
            await ask(stage, proxy, QUESTION, headers=PARENT)
        (tree,) = by_trace(collector.spans())
    assert tree["request"].trace == TRACE and tree["request"].parent == CALLER
    sent = stage.upstream.calls[0].headers
    assert sent.getall("traceparent") == [f"00-{TRACE}-{tree['try'].id}-01"]
    assert sent["tracestate"] == "vendor=x"


async def test_a_trace_that_begins_here_leads_upstream(stage: Stage) -> None:
    async with Collector() as collector:
        async with traced(stage, collector.endpoint) as proxy:
            await ask(stage, proxy, QUESTION, headers={"traceparent": "garbage"})
        (tree,) = by_trace(collector.spans())
    (sent,) = stage.upstream.calls[0].headers.getall("traceparent")
    assert sent.startswith(f"00-{tree['try'].trace}-{tree['try'].id}-") and sampled(sent)


async def test_with_no_traces_wanted_a_callers_goes_on_unchanged(stage: Stage) -> None:
    proxy = await stage.proxy()
    await ask(stage, proxy, QUESTION, headers=PARENT)
    await ask(stage, proxy, "And without one?")
    first, second = (call.headers for call in stage.upstream.calls)
    assert {name: first[name] for name in PARENT} == PARENT
    assert "traceparent" not in second


async def test_a_sample_of_none_sends_nothing_and_lets_traces_through(stage: Stage) -> None:
    async with Collector() as collector:
        async with traced(stage, collector.endpoint, sample=0) as proxy:
            await ask(stage, proxy, QUESTION, headers=PARENT)
            await ask(stage, proxy, "And without one?")
        assert collector.raw == []
    first, second = (call.headers for call in stage.upstream.calls)
    assert {name: first[name] for name in PARENT} == PARENT
    assert not sampled(second["traceparent"])


@pytest.mark.parametrize("wanted", [False, True])
async def test_no_text_leaves_unless_it_is_wanted(stage: Stage, wanted: bool) -> None:
    async with Collector() as collector:
        async with traced(stage, collector.endpoint, record_text=wanted) as proxy:
            key = {"Authorization": "Bearer sk-zebra-key"}
            stage.upstream.play(Script(text="zebra-answer"))
            await ask(stage, proxy, "zebra-question", headers=key)
            await ask(stage, proxy, "zebra-question", headers=key)
            await ask(stage, proxy, "zebra-stream", headers=key, stream=True)
            stage.upstream.play(Script(status=500, body=b'{"error": "zebra-error"}'))
            await ask(stage, proxy, "zebra-failure", headers=key)
            await ask(stage, proxy, "zebra-bad", headers=key, messages="zebra-bad")
        sent = b"".join(collector.raw)
    assert len(by_trace(collector.spans())) == 5
    assert (b"zebra-question" in sent) is wanted
    for never in (b"zebra-answer", b"zebra-error", b"sk-zebra-key", b"zebra-bad"):
        assert never not in sent, never


async def test_what_fails_is_marked_and_every_try_is_a_span(stage: Stage) -> None:
    async with Collector() as collector:
        async with traced(stage, collector.endpoint) as proxy:
            stage.upstream.play(Script(status=503, headers={"retry-after": "0"}), Script())
            await ask(stage, proxy, QUESTION)
            stage.upstream.play(*[Script(drop=True)] * 3)
            await ask(stage, proxy, "And then?")
            assert (await chat(stage.http, proxy, QUESTION, messages=7))[0] == 400
        spans = collector.spans()
    retried, failed, refused = by_trace(spans)
    tries = [s for s in spans if s.kind == CLIENT and s.trace == retried["request"].trace]
    assert [(s.facts["nearhit.outcome"], s.failed) for s in tries] == [
        ("retried", True),
        ("ok", False),
    ]
    assert not retried["request"].failed
    assert failed["request"].failed and failed["try"].failed
    assert failed["request"].facts["error.type"] == "502"
    assert failed["try"].facts["error.type"] == "broken"
    assert refused["request"].facts["http.response.status_code"] == 400
    assert not refused["request"].failed  # the caller's mistake, not ours


async def test_a_collector_that_is_not_there_costs_no_request_and_one_line(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(span_export, "EVERY", 0.02)
    monkeypatch.setattr(span_export, "CLOSING", 0.2)
    monkeypatch.setattr(tracing_root, "_SECONDS", 0.2)
    with caplog.at_level(logging.INFO):
        async with traced(stage, f"http://127.0.0.1:{free_port()}") as proxy:
            await ask(stage, proxy, QUESTION)
            began = time.monotonic()
            for _ in range(4):
                assert "hit" in await ask(stage, proxy, QUESTION)
            assert time.monotonic() - began < 4
            await asyncio.sleep(0.5)  # the exporter has given a message up
    told = [r for r in caplog.records if r.name.startswith(("nearhit.tracing", "opentelemetry"))]
    assert [r.name for r in told] == ["nearhit.tracing"]


def test_without_traces_nothing_that_makes_them_is_loaded() -> None:
    # redis looks for the SDK's metrics by itself, wherever it is installed.
    code = (
        "import sys, proxy.app, proxy.cli, proxy.server, proxy.tracing_root;"
        "ours = {'proxy.tracing', 'proxy.span_export', 'opentelemetry.sdk.trace',"
        "        'opentelemetry.exporter', 'opentelemetry.proto'};"
        "print(*sorted(ours & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_no_module_of_ours_asks_for_opentelemetry_until_an_endpoint_is_set() -> None:
    for file in (ROOT / "proxy").rglob("*.py"):
        asks = "opentelemetry" in set(imports(file))
        assert asks is (file.name in {"tracing.py", "span_export.py", "tracing_root.py"}), file
