"""The floors do the least that a server of their kind can do, and nothing less."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import numpy as np
import orjson
import pytest

from bench.fake_upstream import CHAT
from bench.floors import (
    ECHO,
    content_length,
    echo,
    encode_batches,
    encode_singly,
    encoding,
)
from bench.processes import python_server, running
from embed.encoder import Vectors

pytestmark = pytest.mark.serial


class CountingEncoder:
    """Remembers the size of every batch."""

    checkpoint = "counting"
    dimension = 2
    max_tokens = 8

    def __init__(self) -> None:
        self.batches: list[int] = []

    def fits(self, text: str) -> bool:
        """Everything fits."""
        return True

    def first_window(self, text: str) -> str | None:
        """Everything fits."""
        return text

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one and the same vector for all."""
        self.batches.append(len(texts))
        return np.tile(np.array([1.0, 0.0], dtype=np.float32), (len(texts), 1))

    async def aclose(self) -> None:
        """Nothing to free."""


async def test_the_echo_parses_the_body_and_answers_a_kilobyte() -> None:
    transport = httpx.ASGITransport(app=echo)
    async with httpx.AsyncClient(transport=transport, base_url="http://echo") as client:
        answer = await client.post("/", content=b'{"a": 1}')
        assert answer.content == ECHO
        assert 1000 < len(ECHO) < 1100
        with pytest.raises(orjson.JSONDecodeError):
            await client.post("/", content=b"{")


@pytest.mark.slow
async def test_the_pass_through_forwards_bodies_and_answers() -> None:
    async with (
        running("fake upstream", python_server("bench.fake_upstream")) as upstream,
        running(
            "bare", python_server("bench.floors", "passthrough", "--upstream", upstream.origin)
        ) as bare,
        httpx.AsyncClient() as client,
    ):
        body = {"model": "through", "messages": []}
        answer = await client.post(bare.origin + CHAT, json=body)
        assert answer.status_code == 200
        assert answer.json()["model"] == "through"
        assert answer.headers["content-type"] == "application/json"
        assert (await client.get(bare.origin + "/nowhere")).status_code == 404
        assert (await client.get(upstream.origin + "/calls")).json()["total"] == 1


async def test_the_floor_that_encodes_does_so_before_it_answers() -> None:
    encoder = CountingEncoder()
    transport = httpx.ASGITransport(app=encoding(echo, encoder))
    body = orjson.dumps({"messages": [{"content": "system"}, {"content": "question"}]})
    async with httpx.AsyncClient(transport=transport, base_url="http://echo") as client:
        answer = await client.post("/", content=body)
    assert answer.content == ECHO
    assert encoder.batches == [1]


async def test_single_texts_are_encoded_one_at_a_time() -> None:
    encoder = CountingEncoder()
    assert await encode_singly(encoder, ["a", "b", "c"]) >= 0
    assert encoder.batches == [1, 1, 1]


async def test_batches_are_of_32_and_a_short_rest_is_left_out() -> None:
    encoder = CountingEncoder()
    assert await encode_batches(encoder, ["text"] * 70) > 0
    assert encoder.batches == [32, 32]


@pytest.mark.parametrize(
    ("head", "length"),
    [
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 12", 12, id="as written"),
        pytest.param(b"POST / HTTP/1.1\r\ncontent-length:7", 7, id="lower case, no space"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x", 0, id="no body"),
    ],
)
def test_content_length(head: bytes, length: int) -> None:
    assert content_length(head) == length
