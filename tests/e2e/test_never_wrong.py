"""The cases in which today's caches serve a wrong answer. All of them must be safe here.

Each first shows that the right answer would hit, so that a cache that never hits cannot pass.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import Ask, Stage
from tests.fake_upstream import Script
from tests.harness import digest

TWO_TENANTS = {
    "keys": [
        {"sha256": digest("key-a"), "tenant": "a"},
        {"sha256": digest("key-b"), "tenant": "b"},
    ]
}
QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
SYSTEM = "You are the help desk of a kettle shop. " * 40 + "Goods may be returned for {} days."


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


async def test_an_exact_repeat_and_a_rephrasing_hit(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy())
    first = await ask(client, QUESTION)
    again = await ask(client, QUESTION)
    near = await ask(client, REPHRASED)
    assert (first.status, first.hit) == ("nearhit; fwd=miss", False)
    assert again.status.endswith("detail=exact")
    assert near.status.endswith("detail=semantic")
    assert {first.text, again.text, near.text} == {first.text}
    assert len(stage.upstream.calls) == 1


async def test_two_keys_with_the_same_or_a_similar_question_never_share(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(auth=TWO_TENANTS)
    a, b = stage.openai(proxy, "key-a"), stage.openai(proxy, "key-b")
    mine = await ask(a, QUESTION)
    assert (await ask(a, REPHRASED)).hit
    assert not (await ask(b, REPHRASED)).hit
    assert mine.text not in [(await ask(b, q)).text for q in (QUESTION, REPHRASED)]


async def test_without_keys_two_credentials_never_share(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy()
    one, two = stage.openai(proxy, "sk-one"), stage.openai(proxy, "sk-two")
    mine = await ask(one, QUESTION)
    assert (await ask(one, REPHRASED)).hit
    assert not (await ask(two, REPHRASED)).hit
    assert mine.text not in [(await ask(two, q)).text for q in (QUESTION, REPHRASED)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("Answer in German.", "Answer in French.", id="short"),
        pytest.param(SYSTEM.format(30), SYSTEM.format(14), id="long, one fact changed"),
    ],
)
async def test_another_system_prompt_is_a_miss(
    stage: Stage, ask: Ask, one: str, other: str
) -> None:
    client = stage.openai(await stage.proxy())
    mine = await ask(client, system(one), QUESTION)
    assert (await ask(client, system(one), REPHRASED)).hit
    assert not (await ask(client, system(other), REPHRASED)).hit
    assert (await ask(client, system(other), QUESTION)).text != mine.text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"tools": [tool("find")]}, {"tools": [tool("buy")]}, id="tools"),
        pytest.param({"temperature": 0}, {"temperature": 1}, id="temperature"),
        pytest.param(
            {"response_format": {"type": "text"}},
            {"response_format": {"type": "json_object"}},
            id="response format",
        ),
        pytest.param({"seed": 1}, {"seed": 2}, id="seed"),
        pytest.param({"max_tokens": 5}, {"max_tokens": 6}, id="max_tokens"),
        pytest.param({"model": "gpt-4o-mini"}, {"model": "gpt-4o"}, id="model"),
        pytest.param({"extra_body": {"new": 1}}, {"extra_body": {"new": 2}}, id="unknown field"),
    ],
)
async def test_another_parameter_is_a_miss(
    stage: Stage, ask: Ask, one: dict[str, Any], other: dict[str, Any]
) -> None:
    client = stage.openai(await stage.proxy())
    mine = await ask(client, QUESTION, **one)
    assert (await ask(client, REPHRASED, **one)).hit
    assert not (await ask(client, REPHRASED, **other)).hit
    assert (await ask(client, QUESTION, **other)).text != mine.text


async def test_a_model_that_is_called_like_a_group_is_none_of_it(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(model_groups={"gpt-4": ["gpt-4o", "gpt-4o-2024-*"]})
    client = stage.openai(proxy)
    await ask(client, QUESTION, model="gpt-4o")
    assert (await ask(client, QUESTION, model="gpt-4o-2024-08-06")).hit
    assert (await ask(client, QUESTION, model="gpt-4")).status == "nearhit; fwd=miss"


async def test_a_follow_up_is_never_answered_from_another_conversation(
    stage: Stage, ask: Ask
) -> None:
    client = stage.openai(await stage.proxy())
    follow_up = "And how long does it take to get there from the airport?"
    bologna = ("Tell me about Bologna.", assistant("A city with long arcades."), follow_up)
    turin = ("Tell me about Turin.", assistant("A city with long arcades."), follow_up)
    reply = ("Tell me about Bologna.", assistant("A town with long arcades."), follow_up)
    await ask(client, *bologna)
    assert (await ask(client, *bologna)).hit
    assert (await ask(client, *bologna[:2], follow_up.replace("take", "usually take"))).hit
    for other in (turin, reply, (follow_up,), ("Hello", assistant("Hi"), *bologna)):
        assert not (await ask(client, *other)).hit


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I enable two-factor login?", "How do I disable two-factor login?"),
        ("When will order 48213 arrive?", "When will order 48231 arrive?"),
        ("How long may I return order 7012?", "How long may I return order 7013?"),
        ("A shop sells 12 pens for 6 euros. What do 30 cost?",
         "A shop sells 12 pens for 8 euros. What do 30 cost?"),
        ("Is this plant safe for cats?", "Is this plant not safe for cats?"),
        ("Should I water it before sunrise?", "Should I water it after sunrise?"),
        ("What is the population of Norway?", "What is the population of Sweden?"),
    ],
)  # fmt: skip
async def test_another_question_that_looks_alike_is_a_miss(
    stage: Stage, ask: Ask, one: str, other: str
) -> None:
    client = stage.openai(await stage.proxy())
    mine = await ask(client, one)
    assert (await ask(client, one)).hit
    theirs = await ask(client, other)
    assert not theirs.hit
    assert theirs.text != mine.text


async def test_an_agents_next_step_is_never_answered_with_its_last_one(
    stage: Stage, ask: Ask
) -> None:
    client = stage.openai(await stage.proxy())
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
        ],
    }
    start = ("Find me a kettle.", call)
    tools = {"tools": [tool("find")]}
    found = {"role": "tool", "tool_call_id": "c1", "content": "steel kettle"}
    other = {"role": "tool", "tool_call_id": "c1", "content": "glass kettle"}
    await ask(client, *start, found, **tools)
    assert (await ask(client, *start, found, **tools)).status.endswith("detail=exact")
    step = await ask(client, *start, other, **tools)
    assert step.status == "nearhit; fwd=bypass; detail=content"


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_an_upstream_error_is_passed_on_and_never_stored(
    stage: Stage, ask: Ask, status: int
) -> None:
    proxy = await stage.proxy(
        upstreams=[{"name": "f", "base_url": stage.upstream.base_url, "max_retries": 0}]
    )
    stage.upstream.play(Script(status=status), Script(status=status))
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": QUESTION}]}
    sent: dict[str, Any] = {"json": body, "headers": {"Authorization": "Bearer sk-test"}}
    for serial in (1, 2):
        async with stage.http.post(f"{proxy.base_url}/chat/completions", **sent) as answer:
            assert answer.status == status
            assert (await answer.json())["error"][
                "message"
            ] == f"scripted {status} of call {serial}"
    client = stage.openai(proxy)
    assert not (await ask(client, QUESTION)).hit


async def test_what_was_streamed_answers_json_and_the_reverse(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy())

    async def streamed(question: str) -> str:
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": question}], stream=True
        )
        parts = [c.choices[0].delta.content or "" async for c in stream if c.choices]
        return "".join(parts)

    first = await streamed(QUESTION)
    assert (await ask(client, QUESTION)).text == first
    assert await streamed(QUESTION) == first
    assert await streamed(REPHRASED) == first
    other = await ask(client, "Name three kinds of tea.")
    assert await streamed("Name three kinds of tea.") == other.text
    assert len(stage.upstream.calls) == 2
