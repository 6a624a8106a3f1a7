"""What near-hits teach: who opens the tier, and that it outlives a restart and is shared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.conftest import Ask, Stage
from tests.e2e.ground import chat
from tests.e2e.test_feedback import KEYS, bearer, send
from tests.e2e.test_near_hits import (
    FIRST,
    JUDGED,
    NEAR_HIT,
    OPEN,
    PAIR,
    SECOND,
    ask_large,
    metric,
    past,
)
from tests.e2e.test_replicas import soon
from tests.fake_upstream import Call, FakeUpstream, Script
from tests.harness import Proxy, policies, proxy_running, settings_for
from tests.redis_servers import RedisServer

ON = {**JUDGED, "exploration": 1.0, "answer_format": "exact"}


def verb(word: str) -> str:
    return f'What is the past tense of the verb "{word}"?'


async def arms(http: aiohttp.ClientSession, proxy: Proxy) -> list[dict[str, Any]]:
    url = f"{proxy.url}/admin/api/router"
    async with http.get(url, headers=bearer("root")) as answer:
        found: list[dict[str, Any]] = (await answer.json())["arms"]
        return found


def learnt(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["n"]]


async def test_what_was_learnt_survives_a_restart(stage: Stage, ask: Ask) -> None:
    past(stage)
    settings = settings_for(stage.data_dir, stage.upstream.base_url, auth=KEYS, offload=PAIR)
    async with proxy_running(settings, policies(OPEN)) as proxy:
        await ask_large(ask, stage, proxy, FIRST)
        near = await ask_large(ask, stage, proxy, SECOND)
        assert near.status == NEAR_HIT
        await send(stage, proxy, "acme", near.headers["x-request-id"], "wrong")
        before = learnt(await arms(stage.http, proxy))
    assert before
    async with proxy_running(settings, policies(OPEN)) as proxy:
        assert learnt(await arms(stage.http, proxy)) == before
        async with stage.http.get(
            f"{proxy.url}/admin/api/router", headers=bearer("root")
        ) as answer:
            (example,) = (await answer.json())["examples"]
    assert example["query"] == FIRST
    assert example["quality"] < 0.5


async def test_a_purged_answer_takes_what_was_learnt_of_it_along(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=PAIR)
    past(stage)
    await ask_large(ask, stage, proxy, FIRST)
    assert (await ask_large(ask, stage, proxy, SECOND)).status == NEAR_HIT
    headers = bearer("root")
    async with stage.http.post(
        f"{proxy.url}/admin/api/purge", json={"all": True}, headers=headers
    ) as answer:
        assert answer.status == 200
    async with stage.http.get(f"{proxy.url}/admin/api/router", headers=headers) as answer:
        assert (await answer.json())["examples"] == []


async def test_feedback_alone_opens_the_tier_for_its_category(stage: Stage, ask: Ask) -> None:
    other = {**ON, "name": "shared"}
    proxy = await stage.proxy(ON, other, auth=KEYS, offload=PAIR)
    small = past(stage)
    first = await ask_large(ask, stage, proxy, FIRST)
    for number in range(3):
        await ask_large(ask, stage, proxy, verb(f"w{number}k"))
    assert small == []  # nobody has said a word
    key = first.headers["x-request-id"]
    assert await send(stage, proxy, "acme", key, "right") == 202
    for number in range(30):
        if not small:
            await ask_large(ask, stage, proxy, verb(f"j{number}mp"))
    assert small
    asked = len(small)
    headers = {"X-Nearhit-Category": "shared"}
    for number in range(5):
        await ask_large(ask, stage, proxy, verb(f"cl{number}mb"), headers=headers)
    assert len(small) == asked


@pytest.mark.parametrize("category", [{"exploration": 0.0}, {"exploration": 1.0}])
async def test_without_exploration_or_for_whom_it_is_never_the_small_model_is_not_tried(
    stage: Stage, ask: Ask, category: dict[str, Any]
) -> None:
    proxy = await stage.proxy({**ON, **category}, auth=KEYS, offload=PAIR, judge={"model": "large"})
    small = past(stage)
    headers = {"X-Nearhit-Offload": "Never"} if category["exploration"] else None
    for number in range(12):
        asked = await ask_large(ask, stage, proxy, verb(f"w{number}k"), headers=headers)
        assert asked.status == "nearhit; fwd=miss"
    assert small == []


async def test_no_small_model_is_tried_where_the_category_forbids_the_audits(
    stage: Stage, ask: Ask
) -> None:
    category = {**ON, "audit": False}
    proxy = await stage.proxy(category, auth=KEYS, offload=PAIR, judge={"model": "large"})
    small = past(stage)
    for number in range(12):
        await ask_large(ask, stage, proxy, verb(f"w{number}k"))
    assert small == []


async def test_no_small_model_is_tried_while_there_is_no_budget_to_judge_it(
    stage: Stage, ask: Ask
) -> None:
    judge = {"model": "large", "max_cost_per_hour": 0.0}
    proxy = await stage.proxy(ON, auth=KEYS, offload=PAIR, judge=judge)
    small = past(stage)
    for number in range(12):
        await ask_large(ask, stage, proxy, verb(f"w{number}k"))
    assert small == []


async def test_a_stream_that_breaks_off_ends_with_an_error_and_is_not_judged(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(ON, auth=KEYS, offload=PAIR, judge={"model": "large"})
    small = past(stage, text="one two three", cut_after=2)
    await ask_large(ask, stage, proxy, FIRST)
    for number in range(30):
        body = {
            "model": "large",
            "messages": [{"role": "user", "content": verb(f"w{number}k")}],
            "stream": True,
        }
        url = f"{proxy.base_url}/chat/completions"
        async with stage.http.post(url, json=body, headers=bearer("acme")) as answer:
            told = await answer.text()
            status = answer.headers["cache-status"]
        if status == NEAR_HIT:
            break
    assert len(small) == 1
    assert '"error"' in told and "[DONE]" not in told
    assert not await metric(stage, proxy, "nearhit_near_hit_audits_total")


async def test_json_that_is_none_costs_the_client_nothing(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=PAIR)
    small = past(stage, text="no JSON")
    form = {"response_format": {"type": "json_object"}}
    await ask_large(ask, stage, proxy, FIRST, extra_body=form)
    answer = await ask_large(ask, stage, proxy, SECOND, extra_body=form)
    assert (answer.status, answer.text) == ("nearhit; fwd=miss", "jumped")
    assert len(small) == 1


async def test_a_client_s_key_is_not_sent_to_the_small_model_s_other_upstream(
    stage: Stage, ask: Ask
) -> None:
    async with FakeUpstream() as other:
        other.default = Script(text="jumped")
        upstreams = [
            {"name": "main", "base_url": stage.upstream.base_url, "models": ["large"]},
            {"name": "other", "base_url": other.base_url, "models": ["small"]},
        ]
        proxy = await stage.proxy(OPEN, upstreams=upstreams, offload=PAIR)
        past(stage)
        await ask_large(ask, stage, proxy, FIRST, key="sk-mine")
        near = await ask_large(ask, stage, proxy, SECOND, key="sk-mine")
    assert near.status == NEAR_HIT
    assert [call.headers.get("authorization") for call in stage.upstream.calls] == [
        "Bearer sk-mine"
    ]
    (call,) = other.calls
    assert "sk-mine" not in str(call.headers)


class Replicas:
    """Two proxies on one Redis, and what asks them."""

    def __init__(self, http: aiohttp.ClientSession, proxies: list[Proxy]) -> None:
        self.http = http
        self.proxies = proxies


def say(call: Call) -> Script | None:
    return Script(text="small" if call.body["model"] == "small" else "large")


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        server = RedisServer(tmp_path / "redis", "8").start()
        stack.callback(server.stop)
        upstream = await stack.enter_async_context(FakeUpstream())
        upstream.choose = say
        http = await stack.enter_async_context(aiohttp.ClientSession())
        proxies = []
        for replica in range(2):
            settings = settings_for(
                tmp_path / f"data{replica}",
                upstream.base_url,
                documents=server.url,
                auth=KEYS,
                offload=PAIR,
            )
            running = proxy_running(settings, policies(OPEN))
            proxies.append(await stack.enter_async_context(running))
        yield Replicas(http, proxies)


@pytest.mark.serial
@pytest.mark.parametrize("served_it", [True, False])
async def test_what_one_replica_is_told_of_the_other_knows_once(
    replicas: Replicas, served_it: bool
) -> None:
    """Whichever is told: the one that served it, or the other one."""
    here, there = replicas.proxies
    await chat(replicas.http, here, FIRST, key="acme", model="large")
    request_id = ""

    async def near() -> bool:
        nonlocal request_id
        body = {"model": "large", "messages": [{"role": "user", "content": SECOND}]}
        url = f"{here.base_url}/chat/completions"
        async with replicas.http.post(url, json=body, headers=bearer("acme")) as answer:
            request_id = answer.headers["x-request-id"]
            return answer.headers["cache-status"] == NEAR_HIT

    await soon(near)
    if not served_it:
        here, there = there, here
    body = {"response_id": request_id, "verdict": "wrong"}
    url = f"{here.url}/nearhit/feedback"
    async with replicas.http.post(url, json=body, headers=bearer("zeta")) as answer:
        assert answer.status == 404  # another tenant's
    async with replicas.http.post(url, json=body, headers=bearer("acme")) as answer:
        assert answer.status == 202
    told = learnt(await arms(replicas.http, here))
    assert told

    async def known() -> bool:
        return bool(learnt(await arms(replicas.http, there)))

    await soon(known)
    compared = ("category", "small", "arm", "n", "quality", "lower", "upper")
    for one, other in zip(told, learnt(await arms(replicas.http, there)), strict=True):
        assert {k: one.get(k) for k in compared} == {k: other.get(k) for k in compared}
    assert learnt(await arms(replicas.http, here)) == told  # and its own comes back to nobody
