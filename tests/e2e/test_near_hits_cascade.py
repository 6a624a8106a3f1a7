"""Where a cascade is configured, what the small model was not sure of is never seen by a client."""

from __future__ import annotations

import asyncio
from math import log
from typing import Any

import pytest

from tests.e2e.conftest import Ask, Stage
from tests.e2e.test_dashboard import browser, sign_in
from tests.e2e.test_feedback import KEYS, bearer
from tests.e2e.test_near_hits import (
    FIRST,
    JUDGED,
    NEAR_HIT,
    OPEN,
    PAIR,
    SECOND,
    THIRD,
    ask_large,
    metric,
    past,
    why_not,
)
from tests.e2e.test_near_hits_learning import verb
from tests.e2e.test_replicas import soon
from tests.harness import Proxy

CASCADE = [{**PAIR[0], "cascade": True}]
COUNTED = 'nearhit_offloads_total{arm="examples",category="default",outcome="%s"}'
AUDITED = 'nearhit_near_hit_audits_total{category="default",outcome="judged"}'


async def test_what_it_was_sure_of_goes_out_as_any_near_hit(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=CASCADE)
    past(stage, logprob=log(0.95))
    await ask_large(ask, stage, proxy, FIRST)
    raw = await stage.openai(proxy, "acme").chat.completions.with_raw_response.create(
        model="large", messages=[{"role": "user", "content": SECOND}]
    )
    assert raw.headers["cache-status"] == NEAR_HIT
    said = raw.parse().choices[0]
    assert (said.message.content, said.logprobs) == ("jumped", None)


async def test_so_does_a_stream(stage: Stage, ask: Ask) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=CASCADE)
    past(stage, logprob=log(0.95))
    await ask_large(ask, stage, proxy, FIRST)
    raw = await stage.openai(proxy, "acme").chat.completions.with_raw_response.create(
        model="large", messages=[{"role": "user", "content": SECOND}], stream=True
    )
    assert raw.headers["cache-status"] == NEAR_HIT
    parts = [chunk.choices[0] async for chunk in raw.parse() if chunk.choices]
    assert "".join(part.delta.content or "" for part in parts) == "jumped"
    assert not any(part.logprobs for part in parts)


async def page_of(stage: Stage, proxy: Proxy, path: str) -> str:
    session = browser(proxy, stage)
    assert (await sign_in(session, "root"))[0] == 303
    async with session.get(path) as answer:
        assert answer.status == 200
        return await answer.text()


@pytest.mark.parametrize("stream", [False, True])
async def test_what_it_was_not_sure_of_is_answered_by_the_model_that_was_asked_for(
    stage: Stage, ask: Ask, stream: bool
) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=CASCADE)
    small = past(stage, text="wrong", logprob=log(0.3))
    await ask_large(ask, stage, proxy, FIRST)
    async with stage.http.post(
        f"{proxy.url}/v1/chat/completions",
        json={
            "model": "large",
            "stream": stream,
            "messages": [{"role": "user", "content": SECOND}],
        },
        headers=bearer("acme"),
    ) as answer:
        assert answer.headers["cache-status"] == "nearhit; fwd=miss"
        said = await answer.text()
    assert "jumped" in said and "wrong" not in said
    assert len(small) == 1
    await asyncio.sleep(0.1)  # until the large model's answer is stored
    assert await metric(stage, proxy, COUNTED % "unsure") == 1
    page = await page_of(stage, proxy, "/admin/near-hits")
    assert "Held back" in page and "not sure" in page
    again = await ask_large(ask, stage, proxy, SECOND)
    assert again.status.startswith("nearhit; hit")  # stored, as any answer of the large model


async def test_a_client_that_asks_for_probabilities_gets_the_requested_models(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=CASCADE)
    small = past(stage, logprob=log(0.95))
    await ask_large(ask, stage, proxy, FIRST)
    answer = await ask_large(ask, stage, proxy, SECOND, extra_body={"logprobs": True})
    assert answer.status == "nearhit; fwd=bypass; detail=content"
    assert small == []


async def test_an_engine_without_probabilities_costs_the_client_nothing(
    stage: Stage, ask: Ask
) -> None:
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=CASCADE)
    past(stage, logprob=None)
    await ask_large(ask, stage, proxy, FIRST)
    assert (await ask_large(ask, stage, proxy, SECOND)).text == "jumped"
    assert await metric(stage, proxy, COUNTED % "unfit") == 1


async def test_an_unsure_answer_is_judged_beside_the_one_that_the_client_gets(
    stage: Stage, ask: Ask
) -> None:
    """Nobody is asked anything for it: the large model answers the client, and that is all."""
    category = {**JUDGED, "answer_format": "exact"}
    proxy = await stage.proxy(category, auth=KEYS, offload=CASCADE, judge={"model": "large"})
    past(stage, text="wrong", logprob=log(0.3))
    for number in range(40):
        await ask_large(ask, stage, proxy, verb(f"w{number}k"))
    assert await metric(stage, proxy, COUNTED % "unsure") > 10

    async def judged() -> bool:
        return await metric(stage, proxy, AUDITED) > 0

    await soon(judged)
    asked = [call.body["messages"][-1]["content"] for call in stage.upstream.calls
             if call.body and call.body.get("model") == "large"]  # fmt: skip
    assert len(asked) == len(set(asked)) == 40


async def test_a_small_model_that_has_as_many_calls_as_it_bears_is_not_asked(
    stage: Stage, ask: Ask
) -> None:
    pairing: list[dict[str, Any]] = [{**PAIR[0], "small_busy": 1}]
    proxy = await stage.proxy(OPEN, auth=KEYS, offload=pairing)
    small = past(stage, delay=3.0)
    await ask_large(ask, stage, proxy, FIRST)
    slow = asyncio.create_task(ask_large(ask, stage, proxy, SECOND))
    while not small:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await why_not(stage, proxy, THIRD) == "busy"
    assert (await ask_large(ask, stage, proxy, THIRD)).status == "nearhit; fwd=miss"
    assert (await slow).status == NEAR_HIT
    busy = COUNTED.replace("examples", "requested") % "busy"
    assert await metric(stage, proxy, busy) == 1
