"""What a caller may ask for in headers: every directive of the contract, and what it answers."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.e2e.conftest import Ask, Stage
from tests.fake_upstream import Script
from tests.harness import digest

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"


def control(value: str) -> dict[str, str]:
    return {"Cache-Control": value}


async def test_an_exact_hit_tells_its_age_entry_and_similarity(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy({"name": "default", "ttl": "1h"}))
    missed = await ask(client, QUESTION)
    hit = await ask(client, QUESTION)
    assert missed.headers["x-nearhit-category"] == hit.headers["x-nearhit-category"] == "default"
    assert not {"age", "x-nearhit-entry", "x-nearhit-similarity"} & set(missed.headers)
    assert hit.status in (
        "nearhit; hit; ttl=3600; detail=exact",
        "nearhit; hit; ttl=3599; detail=exact",
    )
    assert hit.headers["age"] in ("0", "1")
    assert hit.headers["x-nearhit-similarity"] == "1.0"
    near = await ask(client, REPHRASED)
    assert near.headers["x-nearhit-entry"] == hit.headers["x-nearhit-entry"]
    assert 0.92 <= float(near.headers["x-nearhit-similarity"]) < 1.0
    assert len({a.headers["x-request-id"] for a in (missed, hit, near)}) == 3


async def test_no_cache_skips_the_lookup_and_stores(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy())
    old = await ask(client, QUESTION)
    new = await ask(client, QUESTION, headers=control("no-cache"))
    assert new.status == "nearhit; fwd=request"
    assert new.text != old.text
    assert (await ask(client, QUESTION)).text == new.text
    assert (await ask(client, REPHRASED)).text == new.text


async def test_no_store_is_looked_up_but_not_stored(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy())
    first = await ask(client, QUESTION, headers=control("no-store"))
    assert first.status == "nearhit; fwd=miss"
    assert (await ask(client, QUESTION)).status == "nearhit; fwd=miss"
    assert (await ask(client, QUESTION, headers=control("no-store"))).hit


async def test_no_store_and_no_cache_calls_share_with_nobody(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy())
    asked = [
        ask(client, QUESTION, headers=control(value))
        for value in ("no-store", "no-store", "no-cache", "no-cache")
    ]
    answers = await asyncio.gather(*asked)
    assert len({answer.text for answer in answers}) == 4
    assert not any("collapsed" in answer.status for answer in answers)


async def test_max_age_refuses_an_older_entry_and_replaces_it(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy())
    old = await ask(client, QUESTION)
    assert (await ask(client, QUESTION, headers=control("max-age=60"))).hit
    for question in (QUESTION, REPHRASED):
        fresh = await ask(client, question, headers=control("max-age=0"))
        assert fresh.status == "nearhit; fwd=request"
        assert fresh.text != old.text


async def test_only_if_cached_is_a_504_on_anything_but_a_hit(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy())
    for temperature in (0, 1.5):  # a miss, and a bypass
        with pytest.raises(openai.APIStatusError) as refused:
            await ask(client, QUESTION, headers=control("only-if-cached"), temperature=temperature)
        assert refused.value.status_code == 504
        assert refused.value.body.keys() == {"message", "type", "param", "code"}  # type: ignore[attr-defined]
    assert stage.upstream.calls == []
    await ask(client, QUESTION)
    for question in (QUESTION, REPHRASED):
        assert (await ask(client, question, headers=control("only-if-cached"))).hit


async def test_a_caller_may_raise_the_threshold_but_never_lower_it(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy({"name": "default", "hit_threshold": 0.99}))
    await ask(client, QUESTION)
    assert (await ask(client, REPHRASED)).hit
    assert (await ask(client, QUESTION, headers={"X-Nearhit-Threshold": "1"})).hit
    strict = await ask(client, REPHRASED, headers={"X-Nearhit-Threshold": "0.9999"})
    assert strict.status == "nearhit; fwd=miss"
    far = "What is the right way of descaling a kettle?"
    assert not (await ask(client, far, headers={"X-Nearhit-Threshold": "-1"})).hit


async def test_a_category_is_chosen_by_header_and_rules_the_answer(stage: Stage, ask: Ask) -> None:
    auth = {
        "keys": [
            {"sha256": digest("any"), "tenant": "a"},
            {"sha256": digest("some"), "tenant": "a", "categories": ["exact"]},
        ]
    }
    proxy = await stage.proxy(
        {"name": "default"}, {"name": "exact", "mode": "exact"}, {"name": "off", "mode": "off"},
        auth=auth,
    )  # fmt: skip
    client = stage.openai(proxy, "any")
    await ask(client, QUESTION)
    exact = {"X-Nearhit-Category": "exact"}
    # Stored as default, asked as exact: the stricter of the two decides.
    assert (await ask(client, REPHRASED, headers=exact)).status == "nearhit; fwd=miss"
    found = await ask(client, QUESTION, headers=exact)
    assert found.hit
    assert found.headers["x-nearhit-category"] == "exact"
    off = await ask(client, QUESTION, headers={"X-Nearhit-Category": "off"})
    assert off.status == "nearhit; fwd=bypass; detail=policy"
    limited = stage.openai(proxy, "some")
    assert (await ask(limited, QUESTION, headers=exact)).hit
    with pytest.raises(openai.PermissionDeniedError, match="may not choose 'off'"):
        await ask(limited, QUESTION, headers={"X-Nearhit-Category": "off"})
    with pytest.raises(openai.BadRequestError, match="default, exact, off"):
        await ask(client, QUESTION, headers={"X-Nearhit-Category": "nonsense"})


@pytest.mark.parametrize(
    "temperature",
    [
        pytest.param(1.1, id="above the limit"),
        pytest.param(1.1 + 0.1, id="in seventeen digits"),
        pytest.param("1.8", id="as a text"),
    ],
)
async def test_ten_samples_stay_ten_samples(stage: Stage, ask: Ask, temperature: Any) -> None:
    client = stage.openai(await stage.proxy())
    asked = [ask(client, QUESTION, temperature=temperature) for _ in range(10)]
    answers = await asyncio.gather(*asked)
    assert {answer.status for answer in answers} == {"nearhit; fwd=bypass; detail=temperature"}
    assert len({answer.text for answer in answers}) == 10


async def test_an_absent_temperature_counts_as_one(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy({"name": "default", "max_temperature": 0.5}))
    assert (await ask(client, QUESTION)).status.endswith("detail=temperature")
    await ask(client, QUESTION, temperature=0.5)
    assert (await ask(client, QUESTION, temperature=0.5)).hit


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        pytest.param({"n": 2}, "content", id="n"),
        pytest.param({"logprobs": True}, "content", id="logprobs"),
        pytest.param({"extra_body": {"web_search_options": {}}}, "content", id="hosted tool"),
    ],
)
async def test_what_never_matches_by_meaning_says_so(
    stage: Stage, ask: Ask, more: dict[str, Any], reason: str
) -> None:
    client = stage.openai(await stage.proxy())
    for question in (QUESTION, REPHRASED):
        answer = await ask(client, question, **more)
        assert answer.status == f"nearhit; fwd=bypass; detail={reason}"


async def test_too_many_turns_and_too_long_a_text_are_exact_only(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy({"name": "default", "max_turns": 1}))
    talk: list[Any] = ["Hello", {"role": "assistant", "content": "Hi"}, QUESTION]
    assert (await ask(client, *talk)).status == "nearhit; fwd=bypass; detail=turns"
    assert (await ask(client, *talk)).status.endswith("detail=exact")
    long = "Tell me why kettles sing before they boil. " * 60
    assert (await ask(client, long)).status == "nearhit; fwd=bypass; detail=size"
    assert (await ask(client, long)).status.endswith("detail=exact")
    assert (await ask(client, long + "Please.")).status == "nearhit; fwd=bypass; detail=size"


async def test_an_expired_entry_is_stale_and_replaced(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy({"name": "default", "ttl": "400ms"}))
    old = await ask(client, QUESTION)
    assert (await ask(client, QUESTION)).hit
    await asyncio.sleep(0.4)
    stale = await ask(client, REPHRASED)
    assert stale.status == "nearhit; fwd=stale"
    assert (await ask(client, QUESTION)).text in (stale.text, "Answer 3 to: " + QUESTION)
    assert old.text not in (stale.text,)


async def test_the_upstreams_own_cache_status_comes_first(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy())
    stage.upstream.play(Script(headers={"Cache-Status": "edge; hit", "Age": "7"}))
    first = await ask(client, QUESTION)
    assert first.status == "edge; hit, nearhit; fwd=miss"
    assert "age" not in first.headers
    assert (await ask(client, QUESTION)).status.startswith("nearhit; hit")


async def test_a_harmless_request_id_is_kept_and_another_replaced(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy())
    kept = await ask(client, QUESTION, headers={"X-Request-Id": "trace-1.a_b"})
    assert kept.headers["x-request-id"] == "trace-1.a_b"
    odd = await ask(client, QUESTION, headers={"X-Request-Id": "a b<script>"})
    assert odd.headers["x-request-id"].startswith("req-")
