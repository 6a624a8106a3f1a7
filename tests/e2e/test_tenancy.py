"""Whose answers are whose: users within a tenant, and what tenants share once it is confirmed."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.conftest import Ask, Stage
from tests.fake_upstream import Script
from tests.harness import Proxy, digest

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
KEYS: dict[str, Any] = {
    "keys": [
        {"sha256": digest("acme"), "tenant": "acme", "categories": ["shared", "mine"]},
        {"sha256": digest("zeta"), "tenant": "zeta", "categories": ["shared", "mine"]},
        {"sha256": digest("iota"), "tenant": "iota", "categories": ["shared"]},
        {"sha256": digest("plain"), "tenant": "acme"},
        {"sha256": digest("gateway"), "tenant": "acme", "may_set_user": True},
        {"sha256": digest("root"), "role": "admin"},
    ]
}
MINE = {"X-Nearhit-Category": "mine"}
SHARED = {"X-Nearhit-Category": "shared"}
HIDDEN = {"age", "x-nearhit-entry", "x-nearhit-similarity"}


async def proxy_of(stage: Stage) -> Proxy:
    return await stage.proxy(
        {"name": "default"},
        {"name": "mine", "scope": "user"},
        {"name": "shared", "scope": "shared"},
        auth=KEYS,
    )


async def test_two_users_of_a_tenant_never_see_each_others_answers(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await proxy_of(stage), "acme")
    anns = await ask(client, QUESTION, headers=MINE, user="ann")
    assert (await ask(client, QUESTION, headers=MINE, user="ann")).text == anns.text
    assert (await ask(client, REPHRASED, headers=MINE, user="ann")).text == anns.text
    for question in (QUESTION, REPHRASED):
        assert (await ask(client, question, headers=MINE, user="bob")).text != anns.text


async def test_the_same_user_name_of_two_tenants_is_two_users(stage: Stage, ask: Ask) -> None:
    proxy = await proxy_of(stage)
    await ask(stage.openai(proxy, "acme"), QUESTION, headers=MINE, user="ann")
    assert not (await ask(stage.openai(proxy, "zeta"), QUESTION, headers=MINE, user="ann")).hit


async def test_without_a_user_nothing_is_cached_in_scope_user(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await proxy_of(stage), "acme")
    answers = [await ask(client, QUESTION, headers=MINE) for _ in range(2)]
    assert {a.status for a in answers} == {"nearhit; fwd=bypass; detail=policy"}


async def test_a_trusted_key_names_the_user_in_a_header(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await proxy_of(stage), "gateway")
    ann, bob = ({**MINE, "X-Nearhit-User": name} for name in ("ann", "bob"))
    await ask(client, QUESTION, headers=ann)
    assert (await ask(client, QUESTION, headers=ann)).hit
    assert not (await ask(client, QUESTION, headers=bob)).hit
    assert "x-nearhit-user" not in stage.upstream.calls[-1].headers


async def test_any_other_key_may_not_name_the_user_in_a_header(stage: Stage) -> None:
    client = stage.openai(await proxy_of(stage), "acme")
    with pytest.raises(openai.PermissionDeniedError, match="X-Nearhit-User"):
        await client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": QUESTION}],
            extra_headers={"X-Nearhit-User": "ann"},
        )


async def test_anthropics_metadata_names_the_user(stage: Stage) -> None:
    client: anthropic.AsyncAnthropic = stage.anthropic(await proxy_of(stage), "acme")

    async def status(user: str) -> str:
        raw = await client.messages.with_raw_response.create(
            model="m",
            max_tokens=50,
            messages=[{"role": "user", "content": QUESTION}],
            metadata={"user_id": user},
            extra_headers=MINE,
        )
        return str(raw.headers["cache-status"])

    assert await status("ann") == "nearhit; fwd=miss"
    assert await status("bob") == "nearhit; fwd=miss"
    assert (await status("ann")).startswith("nearhit; hit")


async def test_a_shared_answer_serves_its_own_tenant_at_once(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await proxy_of(stage), "acme")
    await ask(client, QUESTION, headers=SHARED)
    for question in (QUESTION, REPHRASED):
        hit = await ask(client, question, headers=SHARED)
        assert hit.hit
        assert set(hit.headers) >= HIDDEN


async def test_a_shared_answer_serves_others_once_two_tenants_agree(stage: Stage, ask: Ask) -> None:
    proxy = await proxy_of(stage)
    acme, zeta, iota = (stage.openai(proxy, key) for key in ("acme", "zeta", "iota"))
    stage.upstream.default = Script(text="With vinegar and an hour of patience.")
    await ask(acme, QUESTION, headers=SHARED)
    assert (await ask(iota, REPHRASED, headers=SHARED)).status == "nearhit; fwd=miss"
    assert (await ask(zeta, QUESTION, headers=SHARED)).status == "nearhit; fwd=miss"
    before = len(stage.upstream.calls)
    exact = await ask(iota, QUESTION, headers=SHARED)
    assert exact.status == "nearhit; hit; ttl=0; detail=exact"
    assert len(stage.upstream.calls) == before
    assert not HIDDEN & set(exact.headers)


async def test_a_shared_answer_serves_others_by_meaning_too(stage: Stage, ask: Ask) -> None:
    proxy = await proxy_of(stage)
    acme, zeta, iota = (stage.openai(proxy, key) for key in ("acme", "zeta", "iota"))
    stage.upstream.default = Script(text="With vinegar and an hour of patience.")
    await ask(acme, QUESTION, headers=SHARED)
    await ask(zeta, QUESTION, headers=SHARED)
    near = await ask(iota, REPHRASED, headers=SHARED)
    assert near.status == "nearhit; hit; ttl=0; detail=semantic"
    assert not HIDDEN & set(near.headers)


async def test_two_tenants_that_got_different_answers_share_nothing(stage: Stage, ask: Ask) -> None:
    proxy = await proxy_of(stage)
    acme, zeta, iota = (stage.openai(proxy, key) for key in ("acme", "zeta", "iota"))
    own = await ask(acme, QUESTION, headers=SHARED)
    other = await ask(zeta, QUESTION, headers=SHARED)
    assert own.text != other.text
    assert (await ask(iota, QUESTION, headers=SHARED)).status == "nearhit; fwd=miss"
    assert (await ask(acme, QUESTION, headers=SHARED)).text == own.text
    assert (await ask(zeta, QUESTION, headers=SHARED)).text == other.text


async def test_an_admin_may_approve_a_shared_answer(stage: Stage, ask: Ask) -> None:
    proxy = await proxy_of(stage)
    acme, iota = stage.openai(proxy, "acme"), stage.openai(proxy, "iota")
    await ask(acme, QUESTION, headers=SHARED)
    entry = (await ask(acme, QUESTION, headers=SHARED)).headers["x-nearhit-entry"]
    url = f"{proxy.url}/admin/api/entries/{entry}/approve"
    async with stage.http.post(url, headers={"Authorization": "Bearer root"}) as answer:
        assert (answer.status, await answer.json()) == (200, {"approved": entry})
    assert (await ask(iota, QUESTION, headers=SHARED)).hit


async def test_an_entry_of_another_scope_cannot_be_approved(stage: Stage, ask: Ask) -> None:
    proxy = await proxy_of(stage)
    client = stage.openai(proxy, "acme")
    await ask(client, QUESTION)
    entry = (await ask(client, QUESTION)).headers["x-nearhit-entry"]
    url = f"{proxy.url}/admin/api/entries/{entry}/approve"
    async with stage.http.post(url, headers={"Authorization": "Bearer root"}) as answer:
        assert answer.status == 409


async def test_a_shared_category_is_only_for_keys_that_name_it(stage: Stage) -> None:
    client = stage.openai(await proxy_of(stage), "plain")
    with pytest.raises(openai.PermissionDeniedError, match="shared"):
        await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": QUESTION}], extra_headers=SHARED
        )


async def test_tenants_of_a_shared_category_never_share_an_upstream_call(
    stage: Stage, ask: Ask
) -> None:
    proxy = await proxy_of(stage)
    stage.upstream.default = Script(delay=0.2)
    clients = [stage.openai(proxy, key) for key in ("acme", "zeta")]
    answers = await asyncio.gather(*(ask(c, QUESTION, headers=SHARED) for c in clients))
    assert answers[0].text != answers[1].text
    assert len(stage.upstream.calls) == 2
