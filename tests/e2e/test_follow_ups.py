"""A follow-up hits in its own dialogue however that is phrased, and never in another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.conftest import Ask, Stage
from tests.harness import digest

FIRST = "How do I take care of a lemon tree in a pot?"
FIRST_ANEW = "How should I take care of a lemon tree in a pot?"
ANSWER = "Give it sun, and let the soil dry between waterings."
FOLLOW_UP = "How often should I water it in winter?"
FOLLOW_UP_ANEW = "How often should I water it during winter?"
POLICY = {"name": "default", "hit_threshold": 0.9, "context_threshold": 0.9}
METRIC = 'nearhit_guard_vetoes_total{category="default",guard="context"}'


def said(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


DIALOGUE = (FIRST, said(ANSWER), FOLLOW_UP)
IN_OTHER_WORDS = (FIRST_ANEW, said(ANSWER), FOLLOW_UP_ANEW)


async def test_a_dialogue_in_other_words_hits(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy(POLICY))
    first = await ask(client, *DIALOGUE)
    for dialogue in (
        IN_OTHER_WORDS,
        (FIRST_ANEW, said(ANSWER), FOLLOW_UP),
        (FIRST, said(ANSWER), FOLLOW_UP_ANEW),
    ):
        answer = await ask(client, *dialogue)
        assert answer.status.endswith("detail=semantic"), dialogue
        assert answer.text == first.text
    assert len(stage.upstream.calls) == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(("How do I descale a kettle?", said(ANSWER), FOLLOW_UP), id="another topic"),
        pytest.param(
            ("How do I take care of an orange tree in a pot?", said(ANSWER), FOLLOW_UP),
            id="a related topic",
        ),
        pytest.param((FIRST_ANEW, said("Give it sun."), FOLLOW_UP_ANEW), id="another answer"),
        pytest.param((FIRST, said(ANSWER + " "), FOLLOW_UP), id="an answer with one space more"),
        pytest.param((FIRST, ANSWER, FOLLOW_UP), id="an answer that a user wrote"),
        pytest.param((said(FIRST), said(ANSWER), FOLLOW_UP), id="a question that a model wrote"),
        pytest.param((FOLLOW_UP,), id="no dialogue at all"),
        pytest.param(("Hello!", said("Hello!"), *DIALOGUE), id="a deeper dialogue"),
        pytest.param((FIRST, FOLLOW_UP), id="no answer in between"),
        pytest.param((*DIALOGUE[:2], "Thanks!", said("Welcome."), FOLLOW_UP), id="a later turn"),
    ],
)
async def test_the_same_follow_up_elsewhere_never_hits(
    stage: Stage, ask: Ask, other: tuple[Any, ...]
) -> None:
    client = stage.openai(await stage.proxy(POLICY))
    mine = await ask(client, *DIALOGUE)
    theirs = await ask(client, *other)
    assert not theirs.hit
    assert theirs.text != mine.text
    assert (await ask(client, *other)).text == theirs.text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I have 3 lemon trees on a balcony.", "I have 4 lemon trees on a balcony."),
        ("My lemon tree gets sun in winter.", "My lemon tree gets no sun in winter."),
        ("Tell me about lemon trees in Sicily.", "Tell me about lemon trees in Sardinia."),
    ],
)  # fmt: skip
async def test_a_number_a_not_or_a_name_in_an_earlier_turn_forbids_a_hit(
    stage: Stage, ask: Ask, one: str, other: str
) -> None:
    loose = {**POLICY, "context_threshold": 0.0}
    client = stage.openai(await stage.proxy(loose))
    await ask(client, one, said(ANSWER), FOLLOW_UP)
    assert (await ask(client, one, said(ANSWER), FOLLOW_UP_ANEW)).hit
    assert not (await ask(client, other, said(ANSWER), FOLLOW_UP)).hit


async def test_the_stricter_of_two_categories_decides_about_earlier_turns(
    stage: Stage, ask: Ask
) -> None:
    strict = {**POLICY, "name": "strict", "context_threshold": 0.999}
    for one, other in (("default", "strict"), ("strict", "default")):
        proxy = await stage.proxy({**POLICY, "context_threshold": 0.5}, strict)
        client = stage.openai(proxy, f"sk-{one}")
        await ask(client, *DIALOGUE, headers={"X-Nearhit-Category": one})
        headers = {"X-Nearhit-Category": other}
        assert not (await ask(client, *IN_OTHER_WORDS, headers=headers)).hit
        assert (await ask(client, *DIALOGUE[:2], FOLLOW_UP_ANEW, headers=headers)).hit
        await stage.stack.aclose()


async def test_a_caller_who_asks_for_more_likeness_gets_it_in_earlier_turns_too(
    stage: Stage, ask: Ask
) -> None:
    client = stage.openai(await stage.proxy(POLICY))
    await ask(client, *DIALOGUE)
    headers = {"X-Nearhit-Threshold": "0.999"}
    assert not (await ask(client, FIRST_ANEW, said(ANSWER), FOLLOW_UP, headers=headers)).hit


async def test_every_turn_of_a_long_dialogue_is_compared(stage: Stage, ask: Ask) -> None:
    client = stage.openai(await stage.proxy(POLICY))

    def dialogue(*first: str) -> tuple[Any, ...]:
        turns = [*first, "What about frost?", "And which soil?", "May it flower?"]
        return (*(each for turn in turns for each in (turn, said("Yes."))), FOLLOW_UP)

    await ask(client, *dialogue(FIRST, "I have 3 of them."))
    assert (await ask(client, *dialogue(FIRST_ANEW, "I have 3 of these."))).hit
    assert not (await ask(client, *dialogue(FIRST, "I have 4 of them."))).hit
    assert not (await ask(client, *dialogue("How do I descale a kettle?", "I have 3 of them."))).hit


async def test_a_dialogue_in_other_words_hits_after_a_restart(stage: Stage, ask: Ask) -> None:
    for expected in (False, True):
        proxy = await stage.proxy(POLICY)
        client = stage.openai(proxy)
        dialogue = IN_OTHER_WORDS if expected else DIALOGUE
        assert (await ask(client, *dialogue)).hit is expected
        await stage.stack.aclose()


async def test_refused_pasts_are_counted(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(POLICY)
    client = stage.openai(proxy)
    await ask(client, *DIALOGUE)
    await ask(client, "How do I descale a kettle?", said(ANSWER), FOLLOW_UP)
    async with stage.http.get(f"{proxy.url}/metrics") as answer:
        assert f"{METRIC} 1.0" in await answer.text()


async def test_on_the_responses_wire_it_is_the_same(stage: Stage) -> None:
    client = stage.openai(await stage.proxy(POLICY))

    async def asked(first: str, answer: str, last: str) -> str:
        said_before: Any = {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": answer, "annotations": []}],
        }
        raw = await client.responses.with_raw_response.create(
            model="gpt-4o-mini",
            input=[
                {"role": "user", "content": [{"type": "input_text", "text": first}]},
                said_before,
                {"role": "user", "content": last},
            ],
        )
        await asyncio.sleep(0.1)
        return raw.headers["cache-status"]

    assert await asked(FIRST, ANSWER, FOLLOW_UP) == "nearhit; fwd=miss"
    assert (await asked(FIRST_ANEW, ANSWER, FOLLOW_UP_ANEW)).endswith("detail=semantic")
    assert await asked(FIRST_ANEW, "Give it sun.", FOLLOW_UP) == "nearhit; fwd=miss"
    assert await asked("How do I descale a kettle?", ANSWER, FOLLOW_UP) == "nearhit; fwd=miss"


async def test_on_the_messages_wire_it_is_the_same(stage: Stage) -> None:
    client = stage.anthropic(await stage.proxy(POLICY))

    async def asked(first: str, answer: str, last: str) -> str:
        raw = await client.messages.with_raw_response.create(
            model="m",
            max_tokens=64,
            messages=[
                {"role": "user", "content": [{"type": "text", "text": first}]},
                {"role": "assistant", "content": answer},
                {"role": "user", "content": last},
            ],
        )
        await asyncio.sleep(0.1)
        return raw.headers["cache-status"]

    assert await asked(FIRST, ANSWER, FOLLOW_UP) == "nearhit; fwd=miss"
    assert (await asked(FIRST_ANEW, ANSWER, FOLLOW_UP_ANEW)).endswith("detail=semantic")
    assert await asked(FIRST_ANEW, "Give it sun.", FOLLOW_UP) == "nearhit; fwd=miss"
    assert await asked("How do I descale a kettle?", ANSWER, FOLLOW_UP) == "nearhit; fwd=miss"


KEYS = {"keys": [{"sha256": digest("acme"), "tenant": "acme"},
                 {"sha256": digest("root"), "role": "admin"}]}  # fmt: skip


async def test_a_verdict_on_a_hit_after_another_past_makes_no_pair_of_the_questions(
    stage: Stage, ask: Ask
) -> None:
    """They may be equal, and yet the answer wrong because of what was said before."""
    proxy = await stage.proxy(POLICY, auth=KEYS)
    client = stage.openai(proxy, "acme")
    admin = {"Authorization": "Bearer root"}
    await ask(client, *DIALOGUE)
    recorded = []
    for dialogue in (IN_OTHER_WORDS, (*DIALOGUE[:2], FOLLOW_UP_ANEW)):
        hit = await ask(client, *dialogue)
        assert hit.hit
        verdict = {"response_id": hit.headers["x-request-id"], "verdict": "right"}
        key = {"Authorization": "Bearer acme"}
        async with stage.http.post(f"{proxy.url}/nearhit/feedback", json=verdict, headers=key) as r:
            assert r.status == 202
        async with stage.http.get(f"{proxy.url}/admin/api/pairs", headers=admin) as answer:
            recorded.append([pair["query"] for pair in (await answer.json())["pairs"]])
    assert recorded == [[], [FOLLOW_UP_ANEW]]
    entry = hit.headers["x-nearhit-entry"]
    async with stage.http.get(f"{proxy.url}/admin/api/entries/{entry}", headers=admin) as answer:
        assert (await answer.json())["earlier"] == [FIRST]
