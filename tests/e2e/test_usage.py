"""The usage ledger over HTTP: what the SDK asked is counted, priced, shown and kept."""

from __future__ import annotations

import asyncio
import csv
import io
import sqlite3
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest

from proxy.usage.reading import EVERY
from tests.e2e.conftest import Ask, Stage
from tests.fake_upstream import Script
from tests.harness import Proxy, digest

QUESTION = "How do I reset my password?"
KEYS: dict[str, Any] = {
    "keys": [
        {"sha256": digest("acme"), "tenant": "acme"},
        {"sha256": digest("root"), "role": "admin"},
    ]
}
ADMIN = {"authorization": "Bearer root"}


async def usage_of(stage: Stage, proxy: Proxy, query: str = "") -> list[dict[str, Any]]:
    async with stage.http.get(f"{proxy.url}/admin/api/usage{query}", headers=ADMIN) as answer:
        assert answer.status == 200
        body = await answer.json()
    assert body["next"] is None
    lines: list[dict[str, Any]] = body["usage"]
    return lines


async def page(stage: Stage, proxy: Proxy, path: str = "/admin") -> str:
    async with stage.http.get(f"{proxy.url}{path}", headers=ADMIN) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def test_a_miss_and_two_hits_are_counted_priced_and_survive_a_restart(
    stage: Stage, ask: Ask
) -> None:
    settings = {
        "auth": KEYS,
        "usage": {"prices": [{"model": "gpt-4o*", "input": 10, "output": 100}]},
    }
    async with AsyncExitStack() as first:
        alone = Stage(stage.upstream, stage.data_dir, first, stage.http)
        proxy = await alone.proxy(**settings)
        assert "No request yet" in await page(stage, proxy)
        client = alone.openai(proxy, "acme")
        seen = [(await ask(client, text)).status for text in (QUESTION, QUESTION, f"{QUESTION} ")]
        assert ["fwd=miss" in seen[0], "exact" in seen[1], "semantic" in seen[2]] == [True] * 3
        (line,) = await usage_of(stage, proxy)
        live = await page(stage, proxy, "/admin/overview/live?window=day")
        assert "No request yet" not in live and "<html" not in live
    assert (line["tenant"], line["category"], line["model"]) == ("acme", "default", "gpt-4o-mini")
    assert line["requests"] == 3
    assert [line[each] for each in ("miss", "exact", "semantic", "failed")] == [1, 1, 1, 0]
    used = line["prompt_tokens"], line["completion_tokens"]
    assert min(used) > 0
    assert (line["saved_prompt_tokens"], line["saved_completion_tokens"]) == (
        2 * used[0],
        2 * used[1],
    )
    spent = (used[0] * 10 + used[1] * 100) / 1e6
    assert (line["spent"], line["saved"]) == (round(spent, 9), round(2 * spent, 9))
    proxy = await stage.proxy(**settings)
    assert await usage_of(stage, proxy) == [line]
    url = f"{proxy.url}/admin/api/usage?format=csv&from={line['day']}"
    async with stage.http.get(url, headers=ADMIN) as answer:
        assert answer.content_type == "text/csv"
        (row,) = csv.DictReader(io.StringIO(await answer.text()))
    assert row == {name: str(value) for name, value in line.items()}
    assert "Hit rate" in await page(stage, proxy)


async def test_shared_calls_bypasses_and_failures_are_told_apart(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION, headers={"cache-control": "no-store"})
    await ask(client, "What is the tide?", temperature=1.9)
    stage.upstream.play(Script(status=500))
    with pytest.raises(openai.InternalServerError):
        await ask(client, "And tomorrow?")
    (line,) = await usage_of(stage, proxy)
    assert line["requests"] == 3
    assert (line["miss"], line["bypass"], line["failed"]) == (1, 1, 1)
    assert line["prompt_tokens"] > 0 and line["saved"] == 0


async def test_what_is_no_day_is_refused_by_name(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS)
    for query, key in (
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("from=2026-02-02&to=2026-02-01", "from"),
        ("format=xml", "format"),
    ):
        url = f"{proxy.url}/admin/api/usage?{query}"
        async with stage.http.get(url, headers=ADMIN) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["param"]) == (400, key)
    async with stage.http.get(f"{proxy.url}/admin?window=year", headers=ADMIN) as answer:
        assert answer.status == 400
    for query in ("?to=9999-12-31", "?to=0001-01-01", "?from=0001-01-01&to=0001-01-02"):
        assert await usage_of(stage, proxy, query) == []


async def test_a_purged_tenant_is_no_longer_named(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=KEYS)
    await ask(stage.openai(proxy, "acme"), QUESTION)
    url = f"{proxy.url}/admin/api/purge"
    async with stage.http.post(url, json={"tenant": "acme"}, headers=ADMIN) as answer:
        assert answer.status == 200
    (line,) = await usage_of(stage, proxy)
    assert (line["tenant"], line["requests"]) == ("other", 1)


async def test_a_store_that_fails_is_said_on_the_page_which_shows_the_rest(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    await ask(stage.openai(proxy, "acme"), QUESTION)
    assert "The numbers cannot be read" not in await page(stage, proxy, "/admin/overview/live")
    with sqlite3.connect(stage.data_dir / "nearhit.sqlite") as connection:
        connection.execute("ALTER TABLE usage RENAME TO usage_away")
    connection.close()
    await asyncio.sleep(EVERY)
    shown = await page(stage, proxy, "/admin/overview/live")
    assert "The numbers cannot be read" in shown and 'role="alert"' in shown
    assert "no such table" not in shown  # what the store itself said is for the log
    assert "Upstreams" in shown and "healthy" in shown
    with sqlite3.connect(stage.data_dir / "nearhit.sqlite") as connection:
        connection.execute("ALTER TABLE usage_away RENAME TO usage")
    connection.close()
    assert "The numbers cannot be read" not in await page(stage, proxy, "/admin/overview/live")
    assert (await usage_of(stage, proxy))[0]["requests"] == 1
