"""The oracle knows its answers and nothing else."""

from __future__ import annotations

import time

import httpx
import openai
import pytest

from bench.nearhits.oracle import Oracle, judged
from bench.service import Capacity, Service

ANSWERS = {"Past of paint?": "painted", "Past of lift?": "lifted", "Past of sail?": "sailed"}
SIDE_BY_SIDE = (
    "<<QUESTION m7>>\n{}\n<<END m7>>\n<<ANSWER A m7>>\n{}\n<<END m7>>\n"
    "<<ANSWER B m7>>\n{}\n<<END m7>>\nWhich answer is better? End with SCORE: n"
)


def http(oracle: Oracle) -> httpx.AsyncClient:
    """A plain client of it, without a socket between."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=oracle), base_url="http://oracle")


async def said(client: httpx.AsyncClient, question: str, model: str = "large") -> str:
    """What the official client reads."""
    sdk = openai.AsyncOpenAI(base_url="http://oracle/v1", api_key="none", http_client=client)
    answer = await sdk.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}]
    )
    return answer.choices[0].message.content or ""


async def test_a_known_question_has_its_answer_whatever_the_model() -> None:
    async with http(Oracle(ANSWERS)) as client:
        assert await said(client, "Past of paint?") == "painted"
        assert await said(client, "Past of lift?", "other") == "lifted"
        assert (await client.get("/calls")).json() == {"large": 1, "other": 1}


async def test_a_stream_says_the_same() -> None:
    async with http(Oracle(ANSWERS)) as client:
        sdk = openai.AsyncOpenAI(base_url="http://oracle/v1", api_key="none", http_client=client)
        stream = await sdk.chat.completions.create(
            model="large", messages=[{"role": "user", "content": "Past of sail?"}], stream=True
        )
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(parts) == "sailed"


async def test_an_unknown_question_is_an_error_in_the_envelope() -> None:
    async with http(Oracle(ANSWERS)) as client:
        with pytest.raises(openai.NotFoundError, match="no answer to this"):
            await said(client, "Past of dream?")


async def test_told_to_be_wrong_it_gives_another_question_s_answer() -> None:
    async with http(Oracle(ANSWERS)) as client:
        await client.post("/wrong", json=True)
        wrong = [await said(client, question) for question in ANSWERS]
        assert sorted(wrong) == sorted(ANSWERS.values())
        assert not [1 for a, b in zip(wrong, ANSWERS.values(), strict=True) if a == b]
        await client.post("/wrong", json=False)
        assert await said(client, "Past of sail?") == "sailed"


async def test_an_answer_takes_a_place_and_a_verdict_does_not() -> None:
    oracle = Oracle(ANSWERS, Service(Capacity(1, 1.0)))
    async with http(oracle) as client:
        started = time.perf_counter()
        await said(client, SIDE_BY_SIDE.format("Past of paint?", "painted", "pained"), "judge")
        assert time.perf_counter() - started < 0.9
        await client.post("/service", json={"slowdown": 2.0})
        started = time.perf_counter()
        await said(client, "Past of paint?")
        assert time.perf_counter() - started >= 2.0


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ("Painted", "pained", "SCORE: 3"),
        ("pained", "painted", "SCORE: -3"),
        ("painted", "painted", "SCORE: 0"),
        ("pained", "pointed", "SCORE: 0"),
    ],
)
def test_the_reference_is_the_better_answer(first: str, second: str, verdict: str) -> None:
    assert judged(SIDE_BY_SIDE.format("Past of paint?", first, second), ANSWERS) == verdict


def test_what_asks_for_no_verdict_gets_none() -> None:
    assert judged("Past of paint?", ANSWERS) is None
    assert judged(SIDE_BY_SIDE.format("Past of dream?", "a", "b"), ANSWERS) is None
