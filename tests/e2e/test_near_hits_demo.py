"""`nearhit serve` with nothing configured: two real models, and a near-hit between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from proxy.demo_fleet import LARGE, SMALL
from tests.harness import ProxyProcess

pytestmark = [pytest.mark.serial, pytest.mark.slow]

NEAR_HIT = "nearhit; fwd=miss; detail=near-hit"
COUNTRIES = ("France", "Japan", "Italy", "Spain", "Portugal", "Austria", "Greece", "Egypt")


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    process = ProxyProcess(environ={"NEARHIT_DATA_DIR": str(tmp_path)})
    try:
        await process.ready(110)
        url = process.proxy.base_url
        async with openai.AsyncOpenAI(base_url=url, api_key="sk", max_retries=0) as client:
            yield client
    finally:
        process.close()


def asked(country: str) -> list[openai.types.chat.ChatCompletionUserMessageParam]:
    return [{"role": "user", "content": f"What is the capital of {country}?"}]


async def test_after_a_few_answers_the_small_model_answers_as_it_was_shown(
    demo: openai.AsyncOpenAI,
) -> None:
    left = iter(COUNTRIES)
    for country in left:
        raw = await demo.chat.completions.with_raw_response.create(
            model=LARGE.name, messages=asked(country), temperature=0, max_tokens=10, stop=["\n"]
        )
        answer = raw.parse()
        if raw.headers["cache-status"] == NEAR_HIT:
            break
        assert answer.model == LARGE.name
    assert raw.headers["cache-status"] == NEAR_HIT
    assert answer.model == SMALL.name
    assert len((answer.choices[0].message.content or "").split()) <= 3  # a name, no sentence

    streamed = await demo.chat.completions.with_raw_response.create(
        model=LARGE.name,
        messages=asked(next(left)),
        temperature=0,
        max_tokens=10,
        stop=["\n"],
        stream=True,
    )
    chunks = [chunk async for chunk in streamed.parse()]
    assert streamed.headers["cache-status"] == NEAR_HIT
    assert {chunk.model for chunk in chunks} == {SMALL.name}
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert 0 < len(text.split()) <= 3
