"""Which category a request is in, and that its rules hold: headers, match rules, examples."""

from __future__ import annotations

from typing import Any

import aiohttp
import openai
import pytest

from tests.e2e.conftest import Ask, Stage
from tests.harness import digest

COOKING = {
    "name": "cooking",
    "examples": [
        "How long do I boil an egg?",
        "What can I cook with leftover rice?",
        "How do I make a white sauce without lumps?",
        "Which herbs go well with roast lamb?",
        "How do I keep bread fresh for longer?",
    ],
}
PERSONAL = {
    "name": "personal",
    "mode": "off",
    "match": [{"regex": r"(?i)my (password|salary)"}],
    "examples": [
        "What did I say in my diary yesterday?",
        "How much money is left in my bank account?",
        "When is my next doctor's appointment?",
        "Remind me what my mother's address is.",
        "What is in my letter from the tax office?",
    ],
}
SOUP = "How long do I boil a soft egg?"
CAPITAL = "What is the capital city of Mongolia?"


def category(name: str) -> dict[str, str]:
    return {"X-Nearhit-Category": name}


async def test_the_nearest_examples_tell_the_category(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy({"name": "default"}, COOKING, PERSONAL))
    assert (await ask(client, SOUP)).headers["x-nearhit-category"] == "cooking"
    assert (await ask(client, CAPITAL)).headers["x-nearhit-category"] == "default"
    hit = await ask(client, SOUP)
    assert hit.hit
    assert hit.headers["x-nearhit-category"] == "cooking"


async def test_a_personal_question_is_never_looked_up_or_stored(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy({"name": "default"}, COOKING, PERSONAL))
    for question in ("What is left in my bank account?", "Tell me my password for the wiki"):
        answers = [await ask(client, question) for _ in range(2)]
        assert {a.status for a in answers} == {"nearhit; fwd=bypass; detail=policy"}
        assert {a.headers["x-nearhit-category"] for a in answers} == {"personal"}
        assert answers[0].text != answers[1].text


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([{"role": "user", "content": "My salary is low."}], id="a turn"),
        pytest.param([{"role": "user", "content": "My salary is low. " * 300}], id="a long turn"),
        pytest.param(
            [{"role": "user", "content": [{"type": "text", "text": "My salary is low."}]}],
            id="a part of a turn",
        ),
    ],
)
async def test_what_was_said_before_keeps_a_dialogue_out_of_the_cache(
    stage: Stage, ask: Ask, before: list[Any]
) -> None:
    client = stage.openai(await stage.proxy({"name": "default"}, COOKING, PERSONAL))
    for headers in (None, category("cooking")):
        answer = {"role": "assistant", "content": "I see."}
        asked = await ask(client, *before, answer, SOUP, headers=headers)
        assert asked.status == "nearhit; fwd=bypass; detail=policy"
        assert asked.headers["x-nearhit-category"] == "personal"
    parts = [{"type": "text", "text": text} for text in ("My salary is low.", SOUP)]
    asked = await ask(client, {"role": "user", "content": parts})
    assert asked.status == "nearhit; fwd=bypass; detail=policy"
    orders = {"role": "system", "content": "Never speak of my salary."}
    assert (await ask(client, orders, SOUP)).status == "nearhit; fwd=miss"


async def test_no_header_gets_around_a_rule_of_a_mode_off_category(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy({"name": "default"}, COOKING, PERSONAL))
    asked = await ask(client, "Is my salary enough?", headers=category("cooking"))
    assert asked.headers["x-nearhit-category"] == "personal"
    assert asked.status == "nearhit; fwd=bypass; detail=policy"


async def test_no_header_gets_around_what_a_question_of_a_mode_off_category_means(
    stage: Stage, ask: Ask
) -> None:
    tea = {"name": "tea", "match": [{"regex": "(?i)doctor"}]}
    client = stage.openai(await stage.proxy({"name": "default"}, COOKING, PERSONAL, tea))
    for headers in (category("cooking"), None):
        for _ in range(2):
            asked = await ask(client, "When is my next doctor's visit?", headers=headers)
            assert asked.status == "nearhit; fwd=bypass; detail=policy"
            assert asked.headers["x-nearhit-category"] == "personal"


async def test_a_category_that_is_turned_off_forbids_what_a_header_had_stored_before(
    stage: Stage, ask: Ask
) -> None:
    docs = {"name": "docs"}
    proxy = await stage.proxy({"name": "default"}, COOKING, PERSONAL, docs)
    client = stage.openai(proxy)
    await ask(client, SOUP, headers=category("docs"))
    assert (await ask(client, SOUP, headers=category("docs"))).hit
    url = f"{proxy.url}/admin/api/categories/cooking"
    async with stage.http.put(url, json=COOKING | {"mode": "off"}) as answer:
        assert answer.status == 200
    asked = await ask(client, SOUP, headers=category("docs"))
    assert asked.status == "nearhit; fwd=bypass; detail=policy"
    assert asked.headers["x-nearhit-category"] == "cooking"


async def test_an_entry_whose_category_a_header_named_does_not_name_it_for_others(
    stage: Stage, ask: Ask
) -> None:
    prices = {"name": "prices", "ttl": "1h"}
    client = stage.openai(await stage.proxy({"name": "default"}, COOKING, PERSONAL, prices))
    await ask(client, SOUP, headers=category("prices"))
    named = await ask(client, SOUP, headers=category("prices"))
    told = await ask(client, SOUP)
    assert named.hit
    assert told.hit
    assert named.headers["x-nearhit-category"] == "prices"
    assert told.headers["x-nearhit-category"] == "cooking"


async def test_a_category_that_a_header_named_is_nobody_elses_however_often_it_is_asked_anew(
    stage: Stage, ask: Ask
) -> None:
    docs = {"name": "docs", "ttl": "30d"}
    client = stage.openai(await stage.proxy({"name": "default"}, COOKING, PERSONAL, docs))
    await ask(client, SOUP)
    anew = category("docs") | {"Cache-Control": "max-age=0"}  # its own answer takes the place
    named = await ask(client, SOUP, headers=anew)
    assert not named.hit
    told = await ask(client, SOUP)
    assert named.headers["x-nearhit-category"] == "docs"
    assert told.headers["x-nearhit-category"] == "cooking"


async def test_no_header_gets_around_a_locked_rule(stage: Stage, ask: Ask) -> None:
    prices: dict[str, Any] = {
        "name": "prices",
        "mode": "exact",
        "match": [{"regex": "(?i)price"}],
        "locked": True,
    }
    client = stage.openai(await stage.proxy({"name": "default"}, prices))
    asked = await ask(client, "What is the price of tea?", headers=category("default"))
    assert asked.headers["x-nearhit-category"] == "prices"


async def test_a_header_wins_over_open_rules_and_examples(stage: Stage, ask: Ask) -> None:
    tea = {"name": "tea", "match": [{"regex": "(?i)tea"}]}
    client = stage.openai(await stage.proxy({"name": "default"}, COOKING, tea))
    assert (await ask(client, "Which tea is strongest?")).headers["x-nearhit-category"] == "tea"
    chosen = await ask(client, "Which tea is strongest?", headers=category("cooking"))
    assert chosen.headers["x-nearhit-category"] == "cooking"


@pytest.mark.parametrize(
    ("rule", "hits"),
    [
        ({"model": "gpt-4o*"}, True),
        ({"model": "claude-*"}, False),
        ({"path": "/v1/chat/*"}, True),
        ({"header": {"X-Team": "kitchen*"}}, True),
        ({"header": {"X-Team": "garden"}}, False),
        ({"tenant": "acme"}, True),
        ({"tenant": "zeta"}, False),
    ],
    ids=str,
)
async def test_rules_look_at_model_path_header_and_tenant(
    stage: Stage, ask: Ask, rule: dict[str, Any], hits: bool
) -> None:
    keys = [{"sha256": digest("acme-key"), "tenant": "acme"}]
    special = {"name": "special", "match": [rule]}
    proxy = await stage.proxy({"name": "default"}, special, auth={"keys": keys})
    client = stage.openai(proxy, "acme-key")
    asked = await ask(client, CAPITAL, headers={"X-Team": "kitchen-2"})
    assert (asked.headers["x-nearhit-category"] == "special") is hits


async def test_an_unknown_category_is_a_400_that_names_the_known_ones(stage: Stage) -> None:
    client = stage.openai(await stage.proxy({"name": "default"}, COOKING))
    with pytest.raises(openai.BadRequestError, match="cooking") as raised:
        await client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": CAPITAL}],
            extra_headers=category("gardening"),
        )
    assert raised.value.code == "unknown_category"


async def test_a_borderline_question_does_not_fetch_an_expired_price(
    stage: Stage, ask: Ask
) -> None:
    """An entry is judged by its own category too: the stricter of two lifetimes holds."""
    prices = {"name": "prices", "ttl": "0s"}
    client = stage.openai(await stage.proxy({"name": "default", "ttl": "7d"}, prices))
    question = "What is the price of a tonne of copper?"
    await ask(client, question, headers=category("prices"))
    assert (await ask(client, question)).status == "nearhit; fwd=stale"


async def test_a_category_in_scope_user_is_not_served_to_another_one_in_scope_tenant(
    stage: Stage, ask: Ask
) -> None:
    mine = {"name": "mine", "scope": "user"}
    client = stage.openai(await stage.proxy({"name": "default"}, mine))
    await ask(client, CAPITAL, headers=category("mine"), user="ann")
    assert (await ask(client, CAPITAL, headers=category("mine"), user="ann")).hit
    assert not (await ask(client, CAPITAL)).hit


async def test_a_long_text_that_its_first_window_does_not_place_is_not_stored(
    stage: Stage, ask: Ask
) -> None:
    client = stage.openai(await stage.proxy({"name": "default"}, COOKING))
    long = "The tram stops at the harbour and then turns towards the old town. " * 60
    for _ in range(2):
        assert (await ask(client, long)).status == "nearhit; fwd=bypass; detail=size"
    async with aiohttp.ClientSession() as http:
        url = f"{client.base_url}".replace("/v1/", "/admin/api/entries")
        async with http.get(url) as answer:
            assert (await answer.json())["entries"] == []


async def test_a_long_text_that_its_first_window_places_hits_exactly(
    stage: Stage, ask: Ask
) -> None:
    client = stage.openai(await stage.proxy({"name": "default"}, COOKING))
    long = "What can I cook with leftover rice and bread? " + (
        "Fry the rice with an egg, or bake the bread with cheese and herbs. " * 40
    )
    await ask(client, long)
    again = await ask(client, long)
    assert again.hit
    assert again.headers["x-nearhit-category"] == "cooking"
