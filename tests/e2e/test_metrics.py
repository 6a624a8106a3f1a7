"""What a proxy tells Prometheus after traffic of every kind, held against the lint."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.host_metrics import labelled
from proxy.usage import keeping
from tests.e2e.conftest import Ask, Stage
from tests.e2e.ground import chat, counted
from tests.exposition import faults
from tests.fake_upstream import Call, Script
from tests.harness import Proxy, digest

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
NEAR = ('What is the past tense of the verb "walk"?', 'What is the past tense of the verb "jump"?')
AUTH = {
    "keys": [
        {"sha256": digest("acme"), "tenant": "acme-secret-tenant"},
        {"sha256": digest("root"), "role": "admin"},
    ]
}
CATEGORIES: list[dict[str, Any]] = [
    {
        "name": "default",
        "hit_threshold": 0.93,
        "near_threshold": 0.4,
        "offload": "unjudged",
        "example_scope": "tenant",
    },
    {"name": "strict", "error_budget": 0.01, "match": [{"model": "strict-model"}]},
]


async def scraped(stage: Stage, proxy: Proxy) -> str:
    async with stage.http.get(f"{proxy.url}/metrics") as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return await answer.text()


async def traffic(stage: Stage, ask: Ask, proxy: Proxy) -> None:
    """Have something of everything happen."""
    client = stage.openai(proxy, "acme")
    for question in (QUESTION, QUESTION, REPHRASED):
        await ask(client, question)
    for question in NEAR:
        await ask(client, question, model="large")
    await ask(client, QUESTION, model="strict-model")
    for headers in ({"Cache-Control": "no-cache"}, {"Cache-Control": "no-store"}):
        await ask(client, QUESTION, headers=headers)
    await ask(client, QUESTION, temperature=1.7)

    async def send(**more: Any) -> int:
        question = more.pop("question", QUESTION)
        return (await chat(stage.http, proxy, question, **{"key": "acme", **more}))[0]

    assert await send(stream=True) == 200
    assert await send(stream=True, question="What do swifts eat?") == 200
    assert await send(key="nobody") == 401
    assert await send(messages=7) == 400
    stage.upstream.play(Script(status=503), Script())
    assert await send(question="And in winter?") == 200
    stage.upstream.play(Script(status=500))
    assert await send(question="And in spring?") == 500
    stage.upstream.play(Script(drop=True), Script(drop=True), Script(drop=True))
    assert await send(question="And in May?") == 502


async def test_after_traffic_of_every_kind_the_lint_finds_nothing(stage: Stage, ask: Ask) -> None:
    specs = [{"name": "main", "base_url": stage.upstream.base_url, "models": ["*", "large"]}]
    proxy = await stage.proxy(
        *CATEGORIES,
        auth=AUTH,
        upstreams=specs,
        offload=[{"model": "large", "small": "small"}],
        judge={"model": "judge", "max_cost_per_hour": 1.0},
    )

    def choose(call: Call) -> Script | None:
        return Script(text="YES") if call.body["model"] == "judge" else None

    stage.upstream.choose = choose
    await traffic(stage, ask, proxy)
    text = await scraped(stage, proxy)
    assert faults(text) == []
    assert faults(labelled({str(n): text.encode() for n in range(2)}).decode()) == []
    for secret in ("acme", "kettle", "strict-model", "127.0.0.1", "req-"):
        assert secret not in text, secret
    for line in (
        'nearhit_upstream_tries_total{outcome="retried",upstream="main"} 1.0',
        'nearhit_error_answers_total{code="401"} 1.0',
        'nearhit_error_answers_total{code="400"} 1.0',
        'nearhit_error_answers_total{code="502"} 1.0',
        'nearhit_upstream_in_flight{upstream="main"} 0.0',
        'nearhit_error_budget{category="strict"} 0.01',
        "nearhit_memory_fresh 1.0",
        "nearhit_journal_staleness_seconds 0.0",
    ):
        assert line in text, line
    assert 'nearhit_error_budget{category="default"}' not in text
    verdicts = await counted(stage.http, proxy, "nearhit_lookups_total", "verdict")
    assert verdicts.keys() >= {"hit", "miss", "request", "bypass"}


async def test_tokens_that_were_used_and_saved_are_counted(
    stage: Stage, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "EVERY", 0.1)
    proxy = await stage.proxy()
    client = stage.openai(proxy)
    for _ in range(2):
        await ask(client, QUESTION)
    saved: dict[str, int] = {}
    async with asyncio.timeout(5):
        while not saved:
            saved = await counted(stage.http, proxy, "nearhit_saved_tokens_total", "direction")
    used = await counted(stage.http, proxy, "nearhit_upstream_tokens_total", "direction")
    assert used == saved and used.keys() == {"input", "output"} and min(used.values()) > 0


async def test_what_is_under_way_is_in_the_gauges(stage: Stage) -> None:
    proxy = await stage.proxy()
    stage.upstream.play(Script(hold_after=1))
    asking = asyncio.create_task(chat(stage.http, proxy, QUESTION, stream=True))
    await stage.upstream.until(lambda: bool(stage.upstream.calls))
    text = await scraped(stage, proxy)
    assert 'nearhit_upstream_in_flight{upstream="fake"} 1.0' in text
    assert "nearhit_flights 1.0" in text
    stage.upstream.release.set()
    await asking


async def test_an_upstream_that_keeps_failing_is_seen_to_be_passed_over(stage: Stage) -> None:
    specs = [{"name": "fake", "base_url": stage.upstream.base_url, "max_retries": 0}]
    proxy = await stage.proxy(upstreams=specs)
    stage.upstream.play(*[Script(status=503)] * 3)
    for number in range(3):
        await chat(stage.http, proxy, f"What is in box {number}?")
    assert 'nearhit_upstream_ejected{upstream="fake"} 1.0' in await scraped(stage, proxy)
