"""`nearhit serve` with nothing configured: two real models, and a near-hit between them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import openai
import pytest
import yaml

from proxy.demo_fleet import LARGE, SMALL
from tests.harness import ProxyProcess

pytestmark = [pytest.mark.serial, pytest.mark.slow]

OUTCOMES = re.compile(r'nearhit_offloads_total\{arm="examples",.*outcome="(\w+)"\} (\S+)')
NEAR_HIT = "nearhit; fwd=miss; detail=near-hit"
COUNTRIES = ("France", "Japan", "Italy", "Spain", "Portugal", "Austria", "Greece", "Egypt")


@asynccontextmanager
async def serving(data_dir: Path, *arguments: str) -> AsyncIterator[openai.AsyncOpenAI]:
    process = ProxyProcess(*arguments, environ={"NEARHIT_DATA_DIR": str(data_dir)})
    try:
        await process.ready(110)
        url = process.proxy.base_url
        async with openai.AsyncOpenAI(base_url=url, api_key="sk", max_retries=0) as client:
            yield client
    finally:
        process.close()


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    async with serving(tmp_path) as client:
        yield client


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


async def test_as_a_cascade_the_real_engine_says_how_sure_it_was_and_the_client_does_not_see_it(
    tmp_path: Path,
) -> None:
    config = tmp_path / "nearhit.yaml"
    pairing = {"model": LARGE.name, "small": SMALL.name, "cascade": True}
    config.write_text(yaml.safe_dump({"offload": [pairing]}))
    sent = 0
    async with serving(tmp_path / "data", "--config", str(config)) as client:
        for number, country in enumerate(COUNTRIES):
            raw = await client.chat.completions.with_raw_response.create(
                model=LARGE.name,
                messages=asked(country),
                temperature=0,
                max_tokens=40,  # enough: what is cut off is not sent
                stop=["\n"],
                stream=number % 2 == 1,
            )
            body = await raw.http_response.aread()
            assert b"logprob" not in body
            sent += raw.headers["cache-status"] == NEAR_HIT
        metrics = f"{str(client.base_url).removesuffix('/v1/')}/metrics"
        async with aiohttp.ClientSession() as http, http.get(metrics) as answer:
            told = await answer.text()
    came = {outcome: float(count) for outcome, count in OUTCOMES.findall(told)}
    assert came.get("answered", 0.0) == sent
    assert sent + came.get("unsure", 0.0) >= 3
    assert not came.keys() & {"unfit", "failed", "fault"}
