"""The remote encoder against a real socket: the wire, the orders of rows, and every bad answer."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import numpy as np
import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from embed.errors import EncoderFailed
from embed.remote_encoder import RemoteEncoder, _read
from tests.embed.embedding_service import Reply, serving


def item(index: int, *numbers: float) -> dict[str, Any]:
    return {"index": index, "embedding": list(numbers)}


def packed(index: int, *numbers: float) -> dict[str, Any]:
    raw = np.array(numbers, "<f4").tobytes()
    return {"index": index, "embedding": base64.b64encode(raw).decode()}


def replying(answer: object, *, status: int = 200) -> Reply:
    """First answer soundly, so that the encoder opens, then with `answer`."""
    asked = 0

    async def reply(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            return web.json_response({"data": [item(0, 3, 4)]})
        body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
        return web.Response(body=body, status=status, headers={"Location": request.path})

    return reply


async def test_it_asks_as_openai_s_sdk_does() -> None:
    seen: list[tuple[str, str | None, Any]] = []

    async def reply(request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        seen.append((request.path, request.headers.get("Authorization"), body))
        return web.json_response({"data": [item(i, 1, 0) for i in range(len(body["input"]))]})

    async with serving(reply) as base_url:
        encoder = await RemoteEncoder.open(base_url=base_url + "/", model="m", api_key="secret")
        await encoder.encode(["one", "two"])
        await encoder.aclose()
    assert seen[-1] == (
        "/v1/embeddings",
        "Bearer secret",
        {"model": "m", "input": ["one", "two"], "encoding_format": "base64"},
    )


async def test_without_a_key_no_authorization_is_sent() -> None:
    async def reply(request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        return web.json_response({"data": [item(0, 1, 0)]})

    async with serving(reply) as base_url:
        encoder = await RemoteEncoder.open(base_url=base_url, model="m")
        await encoder.aclose()


async def test_it_learns_the_dimension() -> None:
    async with serving(replying({})) as base_url:
        encoder = await RemoteEncoder.open(base_url=base_url, model="m", max_bytes=100)
        assert (encoder.dimension, encoder.max_tokens) == (2, 102)
        await encoder.aclose()


async def test_a_service_with_another_dimension_than_configured_is_refused() -> None:
    async with serving(replying({})) as base_url:
        with pytest.raises(EncoderFailed, match="vectors of 2 numbers, expected 384"):
            await RemoteEncoder.open(base_url=base_url, model="m", dimension=384)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param([item(0, 3, 4), item(1, 0, -2)], id="numbers"),
        pytest.param([packed(0, 3, 4), packed(1, 0, -2)], id="base64"),
        pytest.param([item(1, 0, -2), packed(0, 3, 4)], id="out of order"),
    ],
)
async def test_rows_are_normalised_and_placed_by_index(data: object) -> None:
    async with serving(replying({"data": data})) as base_url:
        encoder = await RemoteEncoder.open(base_url=base_url, model="m")
        expected = np.array([[0.6, 0.8], [0, -1]], np.float32)
        np.testing.assert_allclose(await encoder.encode(["a", "b"]), expected)
        await encoder.aclose()


@given(st.permutations(range(12)))
def test_in_whatever_order_rows_come_each_text_gets_its_own(order: list[int]) -> None:
    vectors = _read({"data": [item(i, *np.eye(12)[i]) for i in order]}, 12, 12)
    np.testing.assert_array_equal(vectors, np.eye(12))


@pytest.mark.parametrize(
    ("answer", "status", "line"),
    [
        pytest.param({"data": []}, 200, "0 items .* for 2 texts", id="no rows"),
        pytest.param({"data": [item(0, 1, 0)]}, 200, "1 items", id="a row missing"),
        pytest.param({"data": [item(i, 1, 0) for i in range(3)]}, 200, "3 items", id="a row more"),
        pytest.param({"data": [item(1, 1, 0)] * 2}, 200, "2 items with indexes", id="one twice"),
        pytest.param({"data": [item(1, 1, 0), item(2, 1, 0)]}, 200, "2 items", id="from one on"),
        pytest.param({"data": [item(0, 1), item(1, 1)]}, 200, "1 numbers, exp", id="dimension"),
        pytest.param({"data": [item(0, 1), item(1, 1, 0)]}, 200, "shape", id="uneven rows"),
        pytest.param({"data": [item(0, 1, 0), item(1, 0, 0)]}, 200, "direction", id="zero vector"),
        pytest.param({"data": [item(0, 1, 0), item(1)]}, 200, "shape", id="empty vector"),
        pytest.param(
            {"data": [packed(0, 1, 0), packed(1, 1, float("nan"))]}, 200, "direction", id="NaN"
        ),
        pytest.param(
            {"data": [item(0, 1, 0), {"index": 1, "embedding": "?"}]}, 200, "base64", id="no base64"
        ),
        pytest.param(
            {"data": [item(0, 1, 0), {"index": 1, "embedding": "AAA="}]}, 200, "sent no", id="half"
        ),
        pytest.param(
            {"data": [item(0, 1, 0), {"index": 1, "embedding": ["x", "y"]}]},
            200,
            "sent no embeddings",
            id="words for numbers",
        ),
        pytest.param({"data": [{"embedding": [1, 0]}] * 2}, 200, "'index'", id="no index"),
        pytest.param({"data": 7}, 200, "sent no embeddings", id="data is no list"),
        pytest.param({"error": "model not found"}, 200, "'data'", id="an error with status 200"),
        pytest.param(b"<html>", 200, "sent no embeddings", id="no JSON"),
        pytest.param(b"", 200, "sent no embeddings", id="nothing"),
        pytest.param({"error": "too long"}, 413, "answered 413$", id="413"),
        pytest.param(b"slow down", 429, "answered 429$", id="429"),
        pytest.param(b"", 307, "answered 307", id="a redirect is not followed"),
    ],
)
async def test_a_bad_answer_is_an_encoder_failure_and_the_next_is_asked_afresh(
    answer: object, status: int, line: str
) -> None:
    async with serving(replying(answer, status=status)) as base_url:
        encoder = await RemoteEncoder.open(base_url=base_url, model="m")
        for _ in range(2):
            with pytest.raises(EncoderFailed, match=line):
                await encoder.encode(["a", "b"])
        await encoder.aclose()


async def test_a_long_error_page_is_cut() -> None:
    async with serving(replying(b"x" * 100_000, status=500)) as base_url:
        encoder = await RemoteEncoder.open(base_url=base_url, model="m")
        with pytest.raises(EncoderFailed) as caught:
            await encoder.encode(["a"])
        await encoder.aclose()
    assert len(str(caught.value)) < 300


async def test_an_answer_without_end_is_not_read_to_memory_s_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("embed.remote_encoder.MAX_ANSWER_BYTES", 1000)
    async with serving(replying(b"x" * 2000)) as base_url:
        encoder = await RemoteEncoder.open(base_url=base_url, model="m")
        with pytest.raises(EncoderFailed, match="more than 1000 bytes"):
            await encoder.encode(["a"])
        await encoder.aclose()


async def test_a_service_that_is_not_there(unused_tcp_port: int) -> None:
    with pytest.raises(EncoderFailed, match="cannot be reached"):
        await RemoteEncoder.open(base_url=f"http://127.0.0.1:{unused_tcp_port}/v1", model="m")


async def test_a_service_that_never_answers_is_given_up() -> None:
    hung_up = asyncio.Event()

    async def reply(request: web.Request) -> web.Response:
        await hung_up.wait()
        return web.Response()

    async with serving(reply) as base_url:
        with pytest.raises(EncoderFailed, match="did not answer in time"):
            await RemoteEncoder.open(
                base_url=base_url, model="m", answer_within=timedelta(milliseconds=50)
            )
        hung_up.set()


async def test_a_closed_encoder_says_so() -> None:
    async with serving(replying({})) as base_url:
        encoder = await RemoteEncoder.open(base_url=base_url, model="m")
        await encoder.aclose()
        with pytest.raises(EncoderFailed, match="closed"):
            await encoder.encode(["too late"])


async def test_ids_differ_by_address_model_and_dimension() -> None:
    ids = set()
    async with serving(replying({"data": [item(0, 3, 4)]})) as base_url:
        for url, model in ((base_url, "a"), (base_url, "b"), (base_url + "/", "a")):
            encoder = await RemoteEncoder.open(base_url=url, model=model)
            ids.add(encoder.checkpoint)
            await encoder.aclose()
    assert len(ids) == 2, "a slash at the end is the same address"
    assert all(i.startswith("remote-") for i in ids)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        pytest.param("x" * 10, True, id="full"),
        pytest.param("x" * 11, False, id="one byte over"),
        pytest.param("é" * 5, True, id="two bytes a letter, full"),
        pytest.param("é" * 6, False, id="two bytes a letter, over"),
        pytest.param("x" * 10_000_000, False, id="megabytes"),
    ],
)
async def test_fits_counts_bytes(text: str, fits: bool) -> None:
    async with serving(replying({})) as base_url:
        encoder = await RemoteEncoder.open(base_url=base_url, model="m", max_bytes=10)
        assert encoder.fits(text) is fits
        await encoder.aclose()


@pytest.mark.parametrize(
    ("text", "window"),
    [
        pytest.param("one two", "one two", id="all of a text that fits"),
        pytest.param("one two three", "one two", id="whole words"),
        pytest.param("three four five", "three four", id="a word that ends at the edge"),
        pytest.param("three fourfive", "three", id="not half a word"),
        pytest.param("x" * 5000, "x" * 10, id="a text of one word is cut"),
        pytest.param("é" * 6, "é" * 5, id="never inside a character"),
        pytest.param("a" + "é" * 6, "a" + "é" * 4, id="never inside a character, odd"),
        pytest.param(" " * 100_000 + "late one", "late one", id="much space before it"),
        pytest.param("\ud800 two", "? two", id="a lone surrogate"),
        pytest.param(" " * 100, None, id="blank"),
        pytest.param("", None, id="nothing"),
    ],
)
async def test_the_first_window_is_bounded_in_bytes(text: str, window: str | None) -> None:
    async with serving(replying({})) as base_url:
        encoder = await RemoteEncoder.open(base_url=base_url, model="m", max_bytes=10)
        assert encoder.first_window(text) == window
        await encoder.aclose()


@given(st.text(max_size=60), st.integers(1, 40))
def test_a_first_window_always_fits(text: str, max_bytes: int) -> None:
    session: Any = None
    encoder = RemoteEncoder(session, url="", model="", dimension=1, max_bytes=max_bytes)
    window = encoder.first_window(text)
    assert window is None or encoder.fits(window)
