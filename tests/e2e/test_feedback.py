"""A client says that an answer was wrong: it is gone for that tenant at once, and for good."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import Ask, Stage
from tests.fake_upstream import Script
from tests.harness import Proxy, digest, proxy_running, settings_for

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
KEYS: dict[str, Any] = {
    "keys": [
        {"sha256": digest("acme"), "tenant": "acme", "categories": ["shared"]},
        {"sha256": digest("zeta"), "tenant": "zeta", "categories": ["shared"]},
        {"sha256": digest("iota"), "tenant": "iota", "categories": ["shared"]},
        {"sha256": digest("root"), "role": "admin"},
    ]
}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def send(
    stage: Stage, proxy: Proxy, key: str, response_id: str, verdict: str = "wrong", **more: Any
) -> int:
    body = {"response_id": response_id, "verdict": verdict, **more}
    url = f"{proxy.url}/nearhit/feedback"
    async with stage.http.post(url, json=body, headers=bearer(key)) as answer:
        await answer.read()
        return answer.status


async def pairs(stage: Stage, proxy: Proxy) -> list[dict[str, Any]]:
    async with stage.http.get(f"{proxy.url}/admin/api/pairs", headers=bearer("root")) as answer:
        rows: list[dict[str, Any]] = (await answer.json())["pairs"]
        return rows


async def test_a_wrong_hit_is_stopped_at_once_and_kept_as_a_labelled_pair(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    wrong = await ask(client, QUESTION)
    hit = await ask(client, REPHRASED)
    assert hit.hit
    told = await send(stage, proxy, "acme", hit.headers["x-request-id"], comment="about pots")
    assert told == 202
    for question in (REPHRASED, QUESTION, QUESTION):
        assert (await ask(client, question)).text != wrong.text
    (pair,) = await pairs(stage, proxy)
    assert (pair["query"], pair["entry_query"]) == (REPHRASED, QUESTION)
    assert (pair["label"], pair["category"], pair["comment"]) == (0, "default", "about pots")
    assert 0.9 < pair["similarity"] < 1


async def test_right_is_kept_and_lifts_nothing(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    first, second = await ask(client, REPHRASED), await ask(client, REPHRASED)
    assert await send(stage, proxy, "acme", first.headers["x-request-id"], "right") == 202
    assert (await ask(client, REPHRASED)).hit
    await send(stage, proxy, "acme", second.headers["x-request-id"], "wrong")
    await send(stage, proxy, "acme", second.headers["x-request-id"], "right")
    assert not (await ask(client, REPHRASED)).hit
    assert sorted(pair["label"] for pair in await pairs(stage, proxy)) == [1, 1]


async def test_another_tenants_answer_is_unknown(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    hit = await ask(client, QUESTION)
    for name in ("x-request-id", "x-nearhit-entry"):
        assert await send(stage, proxy, "zeta", hit.headers[name]) == 404
    assert await send(stage, proxy, "acme", "req-unheard-of") == 404
    assert (await ask(client, QUESTION)).hit


async def test_the_entry_or_the_answers_own_id_names_it_too_but_records_no_pair(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=KEYS)
    client = stage.openai(proxy, "acme")
    for question in (QUESTION, "Where do swifts spend the winter?"):
        await ask(client, question)
    entry = (await ask(client, QUESTION)).headers["x-nearhit-entry"]
    assert await send(stage, proxy, "acme", entry) == 202
    assert not (await ask(client, QUESTION)).hit
    raw = await client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "Where do swifts spend the winter?"}],
    )
    assert await send(stage, proxy, "acme", raw.id) == 202
    assert not (await ask(client, "Where do swifts spend the winter?")).hit
    assert await pairs(stage, proxy) == []


async def test_what_was_stopped_stays_stopped_after_a_restart(stage: Stage, ask: Ask) -> None:
    settings = settings_for(stage.data_dir, stage.upstream.base_url, auth=KEYS)
    async with proxy_running(settings) as proxy:
        client = stage.openai(proxy, "acme")
        await ask(client, QUESTION)
        hit = await ask(client, QUESTION)
        assert await send(stage, proxy, "acme", hit.headers["x-request-id"]) == 202
    async with proxy_running(settings) as proxy:
        client = stage.openai(proxy, "acme")
        assert not (await ask(client, QUESTION)).hit
        assert not (await ask(client, QUESTION)).hit


async def test_in_scope_shared_a_second_tenant_stops_it_for_all(stage: Stage, ask: Ask) -> None:
    shared = {"X-Nearhit-Category": "shared"}
    categories = ({"name": "default"}, {"name": "shared", "scope": "shared"})
    proxy = await stage.proxy(*categories, auth=KEYS)
    acme, zeta, iota = (stage.openai(proxy, key) for key in ("acme", "zeta", "iota"))
    stage.upstream.default = Script(text="With vinegar and an hour of patience.")
    await ask(acme, QUESTION, headers=shared)
    entry = (await ask(acme, QUESTION, headers=shared)).headers["x-nearhit-entry"]
    async with stage.http.post(
        f"{proxy.url}/admin/api/entries/{entry}/approve", headers=bearer("root")
    ) as answer:
        assert answer.status == 200
    first = await ask(zeta, QUESTION, headers=shared)
    assert first.hit
    assert await send(stage, proxy, "zeta", first.headers["x-request-id"]) == 202
    assert not (await ask(zeta, QUESTION, headers=shared)).hit
    assert (await ask(acme, QUESTION, headers=shared)).hit
    second = await ask(iota, QUESTION, headers=shared)
    assert second.hit
    assert await send(stage, proxy, "iota", second.headers["x-request-id"]) == 202
    assert not (await ask(acme, QUESTION, headers=shared)).hit


async def test_in_scope_shared_a_twin_does_not_bring_a_wrong_answer_back(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy({"name": "default", "scope": "shared"}, auth=KEYS)
    acme, zeta, iota = (stage.openai(proxy, key) for key in ("acme", "zeta", "iota"))
    stage.upstream.default = Script(text="With vinegar and an hour of patience.")
    for client in (acme, zeta):  # two that agree: both may serve others
        assert not (await ask(client, QUESTION)).hit
    for question in (QUESTION, REPHRASED):
        assert (await ask(iota, question, headers={"Cache-Control": "no-store"})).hit
    wrong = await ask(iota, QUESTION)
    assert await send(stage, proxy, "iota", wrong.headers["x-request-id"]) == 202
    for question in (REPHRASED, QUESTION):  # neither by its key nor by meaning
        assert not (await ask(iota, question, headers={"Cache-Control": "no-store"})).hit
    wrong = await ask(acme, QUESTION)  # its own, that zeta has word for word
    assert await send(stage, proxy, "acme", wrong.headers["x-request-id"]) == 202
    assert not (await ask(acme, QUESTION)).hit


async def test_an_admin_lifts_what_keeps_the_twins_away_too(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy({"name": "default", "scope": "shared"}, auth=KEYS)
    acme, zeta, iota = (stage.openai(proxy, key) for key in ("acme", "zeta", "iota"))
    stage.upstream.default = Script(text="With vinegar and an hour of patience.")
    for client in (acme, zeta):
        await ask(client, QUESTION)
    wrong = await ask(acme, QUESTION)
    assert await send(stage, proxy, "acme", wrong.headers["x-request-id"]) == 202
    entry = wrong.headers["x-nearhit-entry"]
    url = f"{proxy.url}/admin/api/entries/{entry}/quarantine"
    async with stage.http.post(url, json={"lift": True}, headers=bearer("root")) as answer:
        assert (await answer.json())["quarantined_for"] == []
    for client in (acme, iota):
        assert (await ask(client, QUESTION)).hit


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"response_id": "x"},
        {"response_id": "x", "verdict": "maybe"},
        {"response_id": "", "verdict": "wrong"},
        {"response_id": "x", "verdict": "wrong", "more": 1},
        {"response_id": "x", "verdict": "wrong", "comment": "x" * 3000},
    ],
)
async def test_malformed_feedback_is_a_400(stage: Stage, body: Any) -> None:
    proxy = await stage.proxy(auth=KEYS)
    url = f"{proxy.url}/nearhit/feedback"
    async with stage.http.post(url, json=body, headers=bearer("acme")) as answer:
        assert answer.status == 400
        assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}


async def test_who_may_send_feedback(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS)
    assert await send(stage, proxy, "root", "x") == 403
    assert await send(stage, proxy, "nobody", "x") == 401


async def test_feedback_is_limited_for_each_key(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS, feedback={"per_minute": 2})
    statuses = [await send(stage, proxy, "acme", "x") for _ in range(3)]
    assert statuses == [404, 404, 429]
    assert await send(stage, proxy, "zeta", "x") == 404


async def test_a_body_that_is_too_large_is_a_413(stage: Stage) -> None:
    proxy = await stage.proxy(auth=KEYS, server={"body_limit": "64KiB"})
    body = {"response_id": "x", "verdict": "wrong", "comment": "x" * 100_000}
    for path, key in (("/nearhit/feedback", "acme"), ("/admin/api/purge", "root")):
        async with stage.http.post(f"{proxy.url}{path}", json=body, headers=bearer(key)) as answer:
            assert answer.status == 413
            assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}
