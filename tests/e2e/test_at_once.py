"""An exact hit that is answered where it is read is the answer that a task would give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from proxy.routes import Routes, Scope, Write
from tests.e2e.conftest import Ask, Stage
from tests.harness import Proxy

QUESTION = "How do I descale my kettle with vinegar?"
PASSING = ("Date", "Age", "Connection")  # of the moment, or of the connection


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What `Routes.at_once` has said of each request that it was asked about."""
    said: list[bool] = []
    real = Routes.at_once

    def at_once(routes: Routes, scope: Scope, body: bytes, write: Write) -> bool:
        said.append(real(routes, scope, body, write))
        return said[-1]

    monkeypatch.setattr(Routes, "at_once", at_once)
    return said


async def told(
    proxy: Proxy, question: str, headers: Mapping[str, str], **more: Any
) -> tuple[int, dict[str, str], bytes]:
    """Ask; return status, headers that are no matter of the moment, and body."""
    messages = [{"role": "user", "content": question}]
    body = {"model": "gpt-4o-mini", "messages": messages, **more}
    sent = {"X-Request-Id": "req-1", "Authorization": "Bearer sk-test", **headers}
    async with aiohttp.ClientSession() as http:
        url = f"{proxy.base_url}/chat/completions"
        async with http.post(url, json=body, headers=sent) as answer:
            got = {name: answer.headers[name] for name in answer.headers if name not in PASSING}
            got["Cache-Status"] = re.sub(r"ttl=\d+", "ttl", got.get("Cache-Status", ""))
            return answer.status, got, await answer.read()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hit_is_the_same_where_it_is_read_and_from_a_task(
    stage: Stage, ask: Ask, answered: list[bool], stream: bool
) -> None:
    proxy = await stage.proxy()
    await ask(stage.openai(proxy), QUESTION)
    assert answered == [False]
    at_once = await told(proxy, QUESTION, {}, stream=stream)
    assert answered == [False, True]
    by_a_task = await told(proxy, QUESTION, {"Connection": "close"}, stream=stream)
    assert answered == [False, True]  # a connection that ends is not asked about
    assert at_once == by_a_task
    assert "detail=exact" in at_once[1]["Cache-Status"]


async def test_what_is_refused_is_refused_by_the_task_and_told_once(
    stage: Stage, answered: list[bool]
) -> None:
    proxy = await stage.proxy()
    wrong = await told(proxy, QUESTION, {"X-Nearhit-Threshold": "far"})
    assert wrong[0] == 400
    assert answered == [False]
    assert wrong == await told(
        proxy, QUESTION, {"X-Nearhit-Threshold": "far", "Connection": "close"}
    )


async def test_with_an_access_log_every_answer_takes_a_task(
    stage: Stage, ask: Ask, answered: list[bool]
) -> None:
    proxy = await stage.proxy(logging={"access": True})
    client = stage.openai(proxy)
    await ask(client, QUESTION)
    assert (await ask(client, QUESTION)).hit
    assert answered == []


async def test_an_exact_hit_is_counted_like_any_other(
    stage: Stage, ask: Ask, answered: list[bool]
) -> None:
    proxy = await stage.proxy()
    client = stage.openai(proxy)
    for _ in range(3):
        await ask(client, QUESTION)
    assert answered == [False, True, True]
    async with stage.http.get(f"{proxy.url}/metrics") as answer:
        metrics = await answer.text()
    assert re.search(r'nearhit_lookups_total\{[^}]*verdict="hit"\} 2\.0', metrics)
    assert re.search(r'nearhit_lookups_total\{[^}]*verdict="miss"\} 1\.0', metrics)
