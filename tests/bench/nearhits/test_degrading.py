"""A small model that can be spoilt."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nearhits.degrading import Degrading, garbled
from bench.nearhits.models import ask, turns
from bench.processes import python_server, running
from bench.stand import StandFailed


@given(st.text(min_size=1))
def test_a_garbled_answer_is_another_one(text: str) -> None:
    assert garbled(text) != text.strip()


async def test_answers_pass_until_it_is_spoilt_and_errors_always() -> None:
    async with running("fake", python_server("bench.fake_upstream", "--echo")) as upstream:
        app = Degrading(upstream.origin + "/v1")
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://small"
        ) as client:
            body = {"model": "small", "messages": turns("painted")}

            async def said() -> str:
                answer = await client.post("/v1/chat/completions", json=body)
                text: str = answer.json()["choices"][0]["message"]["content"]
                return text

            assert await said() == "painted"
            await client.post("/spoilt", json=True)
            assert await said() == "detniap"
            assert (await client.get("/v1/models")).json()["data"][0]["id"] == "fake"
            await client.post("/spoilt", json=False)
            assert await said() == "painted"
        await app.aclose()


async def test_an_upstream_s_error_stops_the_benchmark() -> None:
    import aiohttp

    async with running("fake", python_server("bench.fake_upstream")) as upstream:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(StandFailed, match="answered 404"):
                await ask(session, upstream.origin + "/nowhere", "small", turns("painted"))
