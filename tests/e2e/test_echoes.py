"""What an answer echoes of who asked is theirs alone, whoever is served it later."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from tests.e2e.conftest import Stage
from tests.fake_upstream import Call, Script
from tests.harness import Proxy, digest

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
ANN: dict[str, Any] = {"metadata": {"ticket": "A-17"}, "user": "ann@sea", "store": False}
BOB: dict[str, Any] = {"metadata": {"ticket": "B-42"}, "user": "bob", "store": True}
NOBODY: dict[str, Any] = {"metadata": {}, "user": None, "store": True}
SHARED = {"X-Nearhit-Category": "faq"}


async def respond(
    stage: Stage, proxy: Proxy, question: str = QUESTION, key: str = "sk-test", **asked: Any
) -> tuple[str, dict[str, Any]]:
    """Ask /v1/responses; return Cache-Status and the answer once it can hit."""
    headers = {"Authorization": f"Bearer {key}", **asked.pop("headers", {})}
    body = {"model": "m", "input": question, **asked}
    url = f"{proxy.base_url}/responses"
    async with stage.http.post(url, json=body, headers=headers) as answer:
        told = await answer.read()
    await asyncio.sleep(0.1)
    if asked.get("stream"):
        events = [orjson.loads(line[6:]) for line in told.splitlines() if line[:6] == b"data: "]
        assert {echoed(event["response"])["user"] for event in events if "response" in event} == {
            asked.get("user")
        }
        return answer.headers["cache-status"], events[-1]["response"]
    return answer.headers["cache-status"], orjson.loads(told)


def echoed(answer: dict[str, Any]) -> dict[str, Any]:
    return {field: answer[field] for field in NOBODY}


@pytest.mark.parametrize("first", [False, True], ids=["JSON first", "stream first"])
async def test_a_replay_echoes_its_own_asker(stage: Stage, first: bool) -> None:
    proxy = await stage.proxy()
    status, anns = await respond(stage, proxy, stream=first, **ANN)
    assert (status, echoed(anns)) == ("nearhit; fwd=miss", ANN)
    for question in (QUESTION, REPHRASED):
        for stream in (False, True):
            for asked, sees in ((ANN, ANN), (BOB, BOB), ({}, NOBODY)):
                status, told = await respond(stage, proxy, question, stream=stream, **asked)
                assert status.startswith("nearhit; hit")
                assert echoed(told) == sees
                assert told["safety_identifier"] is None
                others = {*NOBODY, "safety_identifier"}
                assert all(told[f] == anns[f] for f in anns.keys() - others)


async def test_nothing_of_who_asked_is_stored(stage: Stage) -> None:
    proxy = await stage.proxy()
    for question, stream in ((QUESTION, False), ("Name three kinds of tea.", True)):
        await respond(stage, proxy, question, stream=stream, **ANN)
    async with stage.http.get(f"{proxy.url}/admin/api/entries") as listed:
        entries = (await listed.json())["entries"]
    assert len(entries) == 2
    for entry in entries:
        async with stage.http.get(f"{proxy.url}/admin/api/entries/{entry['id']}") as shown:
            told = await shown.text()
        assert "A-17" not in told and "ann@sea" not in told


async def test_another_tenant_finds_nothing_of_who_asked_first(stage: Stage) -> None:
    keys = [{"sha256": digest(k), "tenant": k, "categories": ["faq"]} for k in "abc"]
    proxy = await stage.proxy(
        {"name": "default"}, {"name": "faq", "scope": "shared"}, auth={"keys": keys}
    )
    stage.upstream.default = Script(text="With vinegar and an hour of patience.")
    for key in "ab":
        await respond(stage, proxy, key=key, headers=SHARED, **ANN)
    for asked, sees in ((BOB, BOB), ({}, NOBODY)):
        status, told = await respond(stage, proxy, key="c", headers=SHARED, **asked)
        assert status == "nearhit; hit; ttl=0; detail=exact"
        assert echoed(told) == sees


async def test_whoever_asks_at_the_same_time_is_told_of_themselves(stage: Stage) -> None:
    proxy = await stage.proxy()
    stage.upstream.default = Script(text="With vinegar.", delay=0.3)
    asked = [ANN, BOB, {}, ANN, BOB, {}]
    answers = await asyncio.gather(*[respond(stage, proxy, **each) for each in asked])
    assert [echoed(told) for _, told in answers] == [ANN, BOB, NOBODY] * 2
    assert len(stage.upstream.calls) == 3


async def test_nobody_is_refused_for_another_callers_service_tier(stage: Stage) -> None:
    def say(call: Call) -> Script | None:
        return Script(status=400, delay=0.3) if call.body.get("service_tier") == "bogus" else None

    stage.upstream.choose = say
    proxy = await stage.proxy()
    refused = asyncio.create_task(respond(stage, proxy, service_tier="bogus"))
    await stage.upstream.until(lambda: len(stage.upstream.calls) == 1)
    status, told = await respond(stage, proxy)
    assert (status, told["status"]) == ("nearhit; fwd=miss", "completed")
    assert "error" in (await refused)[1]


async def test_what_no_answer_of_a_chat_echoes_costs_a_replay_nothing(stage: Stage) -> None:
    proxy = await stage.proxy()
    url, bodies = f"{proxy.base_url}/chat/completions", []
    for asked in (ANN, BOB):
        body = {"model": "m", "messages": [{"role": "user", "content": QUESTION}], **asked}
        async with stage.http.post(url, json=body) as answer:
            bodies.append(await answer.read())
        await asyncio.sleep(0.1)
    assert answer.headers["cache-status"].endswith("detail=exact")
    assert bodies[0] == bodies[1]
