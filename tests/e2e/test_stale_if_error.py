"""When the upstream fails, an expired answer may stand in, marked so, and only for so long."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.e2e.conftest import Ask, Stage
from tests.fake_upstream import Script

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"
LENIENT: dict[str, Any] = {"name": "default", "ttl": "300ms", "stale_if_error": "1h"}


async def expired(stage: Stage, ask: Ask, policy: dict[str, Any]) -> tuple[Any, str]:
    """Return a client whose one stored answer has expired, and that answer's text."""
    specs = [{"name": "fake", "base_url": stage.upstream.base_url, "max_retries": 0}]
    client = stage.openai(await stage.proxy(policy, upstreams=specs))
    text = (await ask(client, QUESTION)).text
    await asyncio.sleep(0.4)
    return client, text


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_an_expired_answer_stands_in_for_an_upstream_error(
    stage: Stage, ask: Ask, status: int
) -> None:
    client, text = await expired(stage, ask, LENIENT)
    stage.upstream.default = Script(status=status)
    for question in (QUESTION, REPHRASED):
        answer = await ask(client, question)
        assert answer.text == text
        assert answer.status == "nearhit; hit; ttl=-1; detail=stale-if-error"
    assert answer.headers["age"] in ("0", "1")


async def test_an_expired_answer_stands_in_for_an_upstream_that_hangs_up(
    stage: Stage, ask: Ask
) -> None:
    client, text = await expired(stage, ask, LENIENT)
    stage.upstream.default = Script(drop=True)
    assert (await ask(client, QUESTION)).text == text


async def test_it_stands_in_for_a_stream_too(stage: Stage, ask: Ask) -> None:
    client, text = await expired(stage, ask, LENIENT)
    stage.upstream.default = Script(status=503)
    stream = await client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": QUESTION}], stream=True
    )
    told = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(told) == text


async def test_while_the_upstream_works_an_expired_answer_is_never_served(
    stage: Stage, ask: Ask
) -> None:
    client, text = await expired(stage, ask, LENIENT)
    answer = await ask(client, QUESTION)
    assert answer.status == "nearhit; fwd=stale"
    assert answer.text != text


async def test_without_stale_if_error_the_upstreams_error_is_passed_on(
    stage: Stage, ask: Ask
) -> None:
    client, _ = await expired(stage, ask, {**LENIENT, "stale_if_error": "0s"})
    stage.upstream.default = Script(status=503)
    with pytest.raises(openai.InternalServerError) as raised:
        await ask(client, QUESTION)
    assert raised.value.status_code == 503


async def test_after_its_time_it_no_longer_stands_in(stage: Stage, ask: Ask) -> None:
    client, _ = await expired(stage, ask, {**LENIENT, "stale_if_error": "10ms"})
    stage.upstream.default = Script(status=503)
    with pytest.raises(openai.InternalServerError):
        await ask(client, QUESTION)


async def test_a_client_that_limits_the_age_gets_the_error(stage: Stage, ask: Ask) -> None:
    client, _ = await expired(stage, ask, LENIENT)
    stage.upstream.default = Script(status=503)
    with pytest.raises(openai.InternalServerError):
        await ask(client, QUESTION, headers={"Cache-Control": "max-age=3600"})


@pytest.mark.parametrize("status", [400, 401, 404, 429])
async def test_an_error_that_is_the_callers_own_is_passed_on(
    stage: Stage, ask: Ask, status: int
) -> None:
    client, _ = await expired(stage, ask, LENIENT)
    stage.upstream.default = Script(status=status)
    with pytest.raises(openai.APIStatusError) as raised:
        await ask(client, QUESTION)
    assert raised.value.status_code == status
