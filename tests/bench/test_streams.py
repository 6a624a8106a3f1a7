"""The stream generator knows where a response ends, what is wrong with it, and its own limits."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fake_upstream import CHAT
from bench.processes import python_server, running
from bench.streams import (
    StreamLoad,
    cache_status,
    ceiling_of,
    fault_of,
    has_body,
    is_complete,
    request_bytes,
    run_streams,
)
from bench.verdicts import near_ceiling

pytestmark = pytest.mark.serial

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
    b"cache-status: nearhit; hit; ttl=77; detail=exact\r\n\r\n"
    b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\ndata: [DONE]\n\n"
STREAM = b'{"model":"bench","stream":true,"messages":[{"role":"user","content":"hi"}]}'


@pytest.mark.parametrize("response", [CHUNKED, SIZED], ids=["chunked", "with a length"])
def test_a_response_is_complete_with_its_last_byte_only(response: bytes) -> None:
    assert is_complete(response)
    assert not any(is_complete(response[:end]) for end in range(len(response)))


def test_the_first_byte_is_the_bodys_and_not_the_heads() -> None:
    head = CHUNKED.index(b"\r\n\r\n") + 4
    assert not has_body(CHUNKED[:head])
    assert has_body(CHUNKED[: head + 1])


@given(st.integers(0, 300))
def test_a_length_is_taken_at_its_word(length: int) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n".encode()
    assert is_complete(head + b"x" * length)
    assert length == 0 or not is_complete(head + b"x" * (length - 1))


@pytest.mark.parametrize(
    ("response", "fault"),
    [
        pytest.param(CHUNKED, None, id="a whole stream"),
        pytest.param(SIZED, None, id="a whole stream with a length"),
        pytest.param(b"HTTP/1.1 503 Busy\r\n\r\n", "status 503", id="an error"),
        pytest.param(CHUNKED.replace(b"DONE", b"OOPS"), "no [DONE]", id="a stream without its end"),
    ],
)
def test_faults(response: bytes, fault: str | None) -> None:
    assert fault_of(response) == fault


def test_the_cache_status_is_read_without_its_ttl() -> None:
    assert cache_status(CHUNKED) == "nearhit; hit; detail=exact"
    assert cache_status(SIZED) == "none"


def test_a_request_is_one_keep_alive_post() -> None:
    assert request_bytes("http://127.0.0.1:9/v1/x", b"{}") == (
        b"POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:9\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )


def load(url: str, seconds: float = 0.5) -> StreamLoad:
    """Four connections that always ask the same."""
    bodies = itertools.repeat(STREAM)
    return StreamLoad(url=url, connections=4, seconds=seconds, bodies=bodies)


@pytest.mark.slow
async def test_whole_streams_are_timed_to_their_first_and_last_byte() -> None:
    paced = python_server("bench.fake_upstream", "--first-token-ms", "20", "--token-ms", "2")
    async with running("slow upstream", paced) as server:
        found = await run_streams(load(server.origin + CHAT))
        ceiling = await ceiling_of(found.sample, load(server.origin + CHAT))
    assert found.errors == {}
    assert found.statuses == {"none": found.requests}
    assert found.first_byte_p50 >= 20 - 1
    assert found.total_p50 >= found.first_byte_p50 + 32 * 2
    assert is_complete(found.sample)
    assert ceiling > found.rate
    assert not near_ceiling(found.rate, ceiling)


@pytest.mark.slow
async def test_a_server_that_refuses_everything_yields_errors_and_no_times() -> None:
    async with running("fake upstream", python_server("bench.fake_upstream")) as server:
        found = await run_streams(load(server.origin + "/nowhere", seconds=0.2))
    assert found.requests == 0
    assert set(found.errors) == {"status 404"}
    assert found.total_p50 != found.total_p50  # not a number: nothing was measured


async def test_a_server_that_closes_early_is_an_error_for_whoever_waits() -> None:
    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await run_streams(load(f"http://127.0.0.1:{port}/", seconds=0.1))
    assert found.requests == 0
    assert found.errors == {"closed early": 4}
