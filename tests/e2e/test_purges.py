"""What an acknowledged purge takes is gone, also what was only on its way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.conftest import Stage
from tests.fake_upstream import Script
from tests.harness import Proxy

QUESTION = "How do I descale my kettle with vinegar?"
ONLY_IF_CACHED = {"Cache-Control": "only-if-cached"}
EXACT = {"name": "default", "mode": "exact"}


async def chat(stage: Stage, proxy: Proxy, question: str, **headers: str) -> tuple[str, str]:
    """Return Cache-Status and entry of an answer, read to its end."""
    asked = {"model": "m", "messages": [{"role": "user", "content": question}]}
    sent = {"Authorization": "Bearer k", **headers}
    url = f"{proxy.base_url}/chat/completions"
    async with stage.http.post(url, json=asked, headers=sent) as answer:
        await answer.read()
        return answer.headers.get("cache-status", ""), answer.headers.get("x-nearhit-entry", "")


async def hits(stage: Stage, proxy: Proxy, question: str) -> bool:
    status, _ = await chat(stage, proxy, question, **ONLY_IF_CACHED)
    return status.startswith("nearhit; hit")


async def purge(stage: Stage, proxy: Proxy, **selector: Any) -> None:
    async with stage.http.post(f"{proxy.url}/admin/api/purge", json=selector) as answer:
        assert answer.status == 200, await answer.text()


async def under_way(stage: Stage, proxy: Proxy, question: str, **headers: str) -> asyncio.Task[Any]:
    """Ask, and return once the upstream has the question; it answers when it is let."""
    before = len(stage.upstream.calls)
    asking = asyncio.create_task(chat(stage, proxy, question, **headers))
    await stage.upstream.until(lambda: len(stage.upstream.calls) > before)
    return asking


async def test_an_answer_that_its_client_has_is_purged(stage: Stage) -> None:
    proxy = await stage.proxy(EXACT)
    for number in range(30):
        question = f"What is in box {number}?"
        await chat(stage, proxy, question)
        await purge(stage, proxy, all=True)
        assert not await hits(stage, proxy, question)
    await asyncio.sleep(0.1)
    assert not any([await hits(stage, proxy, f"What is in box {n}?") for n in range(30)])


@pytest.mark.parametrize(
    ("selector", "other"),
    [
        ({"all": True}, None),
        ({"tag": "pots"}, {"tag": "pans"}),
        ({"prefix": "How do I"}, {"prefix": "how do I"}),
        ({"model": "m"}, {"model": "n"}),
        ({"category": "default"}, None),
        ({"similar_to": "How can I descale my kettle with vinegar?"}, {"similar_to": "Hi there"}),
    ],
)
async def test_an_answer_that_is_under_way_is_not_stored_behind_a_purge(
    stage: Stage, selector: dict[str, Any], other: dict[str, Any] | None
) -> None:
    proxy = await stage.proxy({"name": "default"}, lookup_gate=False)
    for taken, chosen in ((True, selector), (False, other)):
        if chosen is None:
            continue
        stage.upstream.play(Script(delay=0.4))
        asking = await under_way(stage, proxy, QUESTION, **{"X-Nearhit-Tags": "pots"})
        await purge(stage, proxy, **chosen)
        assert (await asking)[0] == "nearhit; fwd=miss"
        await asyncio.sleep(0.2)
        assert await hits(stage, proxy, QUESTION) is not taken
    await purge(stage, proxy, all=True)
    await chat(stage, proxy, QUESTION)  # asked for after it, so it is stored
    await asyncio.sleep(0.2)
    assert await hits(stage, proxy, QUESTION)


async def test_an_entry_that_is_deleted_is_not_stored_again_by_a_call_of_before(
    stage: Stage,
) -> None:
    proxy = await stage.proxy(EXACT)
    await chat(stage, proxy, QUESTION)
    await asyncio.sleep(0.1)
    _, entry = await chat(stage, proxy, QUESTION)
    stage.upstream.play(Script(delay=0.4))
    asking = await under_way(stage, proxy, QUESTION, **{"Cache-Control": "no-cache"})
    async with stage.http.delete(f"{proxy.url}/admin/api/entries/{entry}") as answer:
        assert answer.status == 200
    await asking
    await asyncio.sleep(0.2)
    assert not await hits(stage, proxy, QUESTION)
