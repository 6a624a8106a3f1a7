"""With a judge configured, hits are checked against the upstream, and what is found has effect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from proxy import audits
from store.decision import budget
from tests.e2e.conftest import Ask, Stage
from tests.e2e.test_feedback import KEYS, QUESTION, REPHRASED, bearer, pairs, send
from tests.fake_upstream import Call, Script
from tests.harness import Proxy, proxy_running, settings_for

JUDGE: dict[str, Any] = {"model": "judge-1", "max_cost_per_hour": 1.0}
CATEGORY = {"name": "default", "error_budget": 0.1}
OTHER = "Where do swifts spend the winter months?"


@pytest.fixture(autouse=True)
def everything_is_sampled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(budget, "SAMPLING", ((0, 1.0),))
    monkeypatch.setattr(budget, "START", 1.0)
    monkeypatch.setattr(budget, "CONTROL_SAMPLING", 0.0)
    monkeypatch.setattr(audits, "NEAR_SAMPLING", 0.0)
    yield


def judging(
    stage: Stage, reply: str, answers: list[str] | None = None, only: str = ""
) -> list[Call]:
    """Have the judge reply so, and the model give these answers in turn; return judge calls.

    With `only`, the judge says YES to whatever does not have that in it.
    """
    asked: list[Call] = []
    left = list(answers or [])

    def choose(call: Call) -> Script | None:
        if isinstance(call.body, dict) and call.body.get("model") == "judge-1":
            asked.append(call)
            meant = only in call.body["messages"][1]["content"]
            return Script(text=reply if meant else "YES")
        return Script(text=left.pop(0)) if left else None

    stage.upstream.choose = choose
    return asked


async def effective(stage: Stage, proxy: Proxy, category: str = "default") -> Any:
    url = f"{proxy.url}/admin/api/categories/{category}"
    async with stage.http.get(url, headers=bearer("root")) as answer:
        return (await answer.json())["effective"]["error_budget"]


async def counted(stage: Stage, proxy: Proxy, line: str) -> float:
    async with stage.http.get(f"{proxy.url}/metrics") as answer:
        for each in (await answer.text()).splitlines():
            if each.startswith(line):
                return float(each.rpartition(" ")[2])
    return 0.0


async def until_counted(stage: Stage, proxy: Proxy, kind: str, outcome: str, n: int = 1) -> None:
    line = f'nearhit_audits_total{{category="default",kind="{kind}",outcome="{outcome}"}}'
    async with asyncio.timeout(10):
        while await counted(stage, proxy, line) < n:  # noqa: ASYNC110 - it is over HTTP
            await asyncio.sleep(0.02)


async def test_a_wrong_hit_is_found_stopped_and_in_the_categorys_numbers(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(CATEGORY, auth=KEYS, judge=JUDGE)
    asked = judging(stage, "NO", only="Answer 1 to")
    client = stage.openai(proxy, "acme")
    wrong = await ask(client, QUESTION)
    assert (await ask(client, REPHRASED)).text == wrong.text
    await until_counted(stage, proxy, "hit", "wrong")
    assert not (await ask(client, REPHRASED)).hit
    standing = await effective(stage, proxy)
    assert (standing["audits"], standing["wrong"], standing["state"]) == (1, 1, "unproven")
    assert standing["error"]["estimate"] == 1.0
    (pair,) = await pairs(stage, proxy)
    assert (pair["query"], pair["entry_query"]) == (REPHRASED, QUESTION)
    assert (pair["label"], pair["source"]) == (0, "audit")
    rate = 'nearhit_false_hit_rate{bound="estimate",category="default"}'
    assert await counted(stage, proxy, rate) == 1.0
    assert await counted(stage, proxy, "nearhit_judge_cost_total") > 0
    orders = [call.body["messages"][1]["content"] for call in asked][:2]
    assert [text.index("Answer 1 to") < text.index("Answer 2 to") for text in orders] == [
        True,
        False,
    ]


async def test_a_right_hit_leaves_a_pair_and_stays(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(CATEGORY, auth=KEYS, judge=JUDGE)
    judging(stage, "Yes.")
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    await ask(client, REPHRASED)
    await until_counted(stage, proxy, "hit", "right")
    assert (await ask(client, REPHRASED)).hit
    assert [pair["label"] for pair in await pairs(stage, proxy)][-1] == 1
    assert (await effective(stage, proxy))["wrong"] == 0


async def test_an_audit_sends_the_clients_own_request_without_streaming(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(CATEGORY, judge=JUDGE)
    judging(stage, "YES")
    client = stage.openai(proxy, "sk-mine")
    await ask(client, QUESTION, seed=7)
    url = f"{proxy.base_url}/chat/completions"
    body = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": REPHRASED}],
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {**bearer("sk-mine"), "Idempotency-Key": "once"}
    async with stage.http.post(url, json=body, headers=headers) as answer:
        assert "detail=semantic" in answer.headers["cache-status"]
    await until_counted(stage, proxy, "hit", "right")
    again = stage.upstream.calls[1]
    assert again.body == {key: body[key] for key in ("model", "messages", "seed")}
    assert "idempotency-key" not in again.headers
    assert {call.headers["authorization"] for call in stage.upstream.calls} == {"Bearer sk-mine"}


async def test_the_same_words_need_no_judge(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(CATEGORY, auth=KEYS, judge=JUDGE)
    said = ["With vinegar: 1,000 ml, and patience.", *["with vinegar: 1000 ml and patience"] * 2]
    asked = judging(stage, "NO", said)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    await ask(client, REPHRASED)
    await until_counted(stage, proxy, "hit", "right")
    assert asked == []


@pytest.mark.parametrize(
    ("category", "headers", "judge"),
    [
        ({**CATEGORY, "audit": False}, {}, JUDGE),
        (CATEGORY, {"Cache-Control": "no-store"}, JUDGE),
        (CATEGORY, {"Cache-Control": "only-if-cached"}, JUDGE),
        (CATEGORY, {}, None),
    ],
    ids=["audit off", "no-store", "only-if-cached", "no judge"],
)
async def test_what_is_never_audited(
    stage: Stage, ask: Ask, category: Any, headers: Any, judge: Any
) -> None:
    proxy = await stage.proxy(category, auth=KEYS, **({"judge": judge} if judge else {}))
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    for _ in range(3):
        assert (await ask(client, REPHRASED, headers=headers)).hit
    assert len(stage.upstream.calls) == 1


async def test_an_exact_hit_measures_the_judge(
    stage: Stage, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "CONTROL_SAMPLING", 1.0)
    proxy = await stage.proxy(CATEGORY, auth=KEYS, judge=JUDGE)
    judging(stage, "NO")
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    assert (await ask(client, QUESTION)).hit
    await until_counted(stage, proxy, "control", "wrong")
    standing = await effective(stage, proxy)
    assert standing["judge"]["controls"] == 1
    assert standing["judge"]["false_alarm"]["estimate"] == 1.0
    assert standing["audits"] == 0
    assert (await ask(client, QUESTION)).hit  # nothing is stopped: the answer was right
    assert await pairs(stage, proxy) == []


async def test_where_exact_hits_are_rare_an_audit_measures_the_judge_too(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(CATEGORY, auth=KEYS, judge=JUDGE)
    judging(stage, "YES")
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    await ask(client, REPHRASED)
    await until_counted(stage, proxy, "control", "right")
    assert (await effective(stage, proxy))["judge"]["controls"] == 1


async def test_a_near_miss_that_would_have_done_becomes_a_pair_without_another_call(
    stage: Stage, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "NEAR_SAMPLING", 1.0)
    strict = {**CATEGORY, "hit_threshold": 0.999, "near_threshold": 0.8}
    proxy = await stage.proxy(strict, auth=KEYS, judge=JUDGE)
    asked = judging(stage, "YES")
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    assert not (await ask(client, REPHRASED)).hit
    await until_counted(stage, proxy, "near-miss", "right")
    assert len(stage.upstream.calls) == 2 + len(asked)
    (pair,) = await pairs(stage, proxy)
    assert (pair["label"], pair["source"]) == (1, "near-miss")
    assert (await effective(stage, proxy))["audits"] == 0  # it was no hit


async def test_when_the_hour_is_paid_up_nothing_more_is_asked(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(CATEGORY, auth=KEYS, judge={**JUDGE, "max_cost_per_hour": 0.0001})
    judging(stage, "YES")
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    for _ in range(4):
        assert (await ask(client, REPHRASED)).hit
    await until_counted(stage, proxy, "hit", "over_budget")
    calls = len(stage.upstream.calls)
    await ask(client, REPHRASED)
    await until_counted(stage, proxy, "hit", "over_budget", 2)
    assert len(stage.upstream.calls) == calls


async def test_an_upstream_that_fails_decides_nothing(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(CATEGORY, auth=KEYS, judge=JUDGE)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    stage.upstream.default = Script(status=500)
    assert (await ask(client, REPHRASED)).hit
    await until_counted(stage, proxy, "hit", "failed")
    assert (await effective(stage, proxy))["audits"] == 0


async def test_a_clients_wrong_tightens_the_point_and_outlives_a_restart(
    stage: Stage, ask: Ask
) -> None:
    settings = settings_for(stage.data_dir, stage.upstream.base_url, auth=KEYS, judge=JUDGE)
    judging(stage, "YES")
    async with proxy_running(settings) as proxy:
        url = f"{proxy.url}/admin/api/categories/default"
        body = {"error_budget": 0.3}
        async with stage.http.put(url, json=body, headers=bearer("root")) as answer:
            assert answer.status == 200
        client = stage.openai(proxy, "acme")
        await ask(client, OTHER)
        await ask(client, QUESTION)
        hit = await ask(client, REPHRASED)
        await until_counted(stage, proxy, "hit", "right")
        before = await effective(stage, proxy)
        assert before["point"] > 0.2  # the shipped one
        assert await send(stage, proxy, "acme", hit.headers["x-request-id"]) == 202
        after = await effective(stage, proxy)
        assert after["tightened"] == 0.5
        assert after["point"] == pytest.approx(before["point"] / 2, abs=1e-5)
        assert after["error"] == before["error"]
        exact = await ask(client, OTHER)
        await send(stage, proxy, "acme", exact.headers["x-request-id"])
        assert await effective(stage, proxy) == after  # it was no hit by meaning
    async with proxy_running(settings) as proxy:
        assert await effective(stage, proxy) == after


async def test_a_category_over_its_budget_serves_nothing_by_meaning_any_more(
    stage: Stage, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "GRID", (0.5, 1.0))
    monkeypatch.setattr(budget, "CONTROL_SAMPLING", 1.0)
    proxy = await stage.proxy(CATEGORY, auth=KEYS, judge={**JUDGE, "max_cost_per_hour": 100.0})
    client = stage.openai(proxy, "acme")
    judging(stage, "YES")
    await ask(client, OTHER)
    for _ in range(20):  # controls: the judge raises no false alarms
        assert (await ask(client, OTHER)).hit
    await until_counted(stage, proxy, "control", "right", 20)
    judging(stage, "NO")
    for day in range(60):
        question = f"On day {day} of the voyage, how do I descale my kettle with vinegar?"
        rephrased = f"On day {day} of the voyage, how can I descale my kettle with vinegar?"
        await ask(client, question)
        if not (await ask(client, rephrased)).hit:
            break
        await until_counted(stage, proxy, "hit", "wrong", day + 1)
    standing = await effective(stage, proxy)
    assert (standing["state"], standing["point"]) == ("refuted", 0.0)
    assert standing["error"]["lower"] > 0.01
    url = f"{proxy.url}/admin/api/overview"
    async with stage.http.get(url, headers=bearer("root")) as answer:
        told = await answer.json()
    assert [each["state"] for each in told["error_budgets"]] == ["refuted"]
    assert told["judge"]["model"] == "judge-1"
    assert told["judge"]["spent_last_hour"] > 0
    assert (await ask(client, OTHER)).hit  # exact hits go on
