"""What is not cached: bodies that are read to be routed, and models that are asked about."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.auth import Caller, Keyring
from proxy.call import Request
from proxy.passthrough import Passthrough, Upload
from proxy.upstream import Upstreams, UpstreamSpec


async def test_a_model_behind_another_wire_is_described_from_the_list() -> None:
    specs = [UpstreamSpec(name="c", provider="groq", models=("llama", "llama-*"))]
    upstreams = Upstreams(specs)  # not entered: litellm need not be there
    passthrough = Passthrough(upstreams, Keyring(()), ())
    request = Request(raw=b"", header_list=[], headers={}, query_string=b"", request_id="r")
    upload, caller = Upload(no_more), Caller(tenant="t")
    answer = await passthrough.answer("GET", "/v1/models/llama", request, caller, upload)
    assert isinstance(answer.body, bytes)
    assert orjson.loads(answer.body) == {
        "id": "llama",
        "object": "model",
        "created": 0,
        "owned_by": "c",
    }


@pytest.mark.parametrize(
    ("parts", "limit", "read"),
    [
        pytest.param([b"abc"], 3, (b"abc", True), id="in one piece"),
        pytest.param([b"ab", b"c"], 3, (b"abc", True), id="in two"),
        pytest.param([b"ab", b""], 3, (b"ab", True), id="with an empty end"),
        pytest.param([b"ab", b"cd", b"ef"], 3, (b"abcd", False), id="too long"),
        pytest.param([b"abcd"], 3, (b"abcd", True), id="too long, and all there"),
    ],
)
async def test_a_body_is_read_up_to_a_limit_and_the_rest_as_it_comes(
    parts: list[bytes], limit: int, read: tuple[bytes, bool]
) -> None:
    async def receive() -> dict[str, Any]:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    left = list(parts)
    upload = Upload(receive)
    assert await upload.up_to(limit) == read
    rest = [] if read[1] else [chunk async for chunk in upload.chunks()]
    assert read[0] + b"".join(rest) == b"".join(parts)


async def test_a_body_of_single_bytes_is_looked_at_seldom() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x", "more_body": True}

    def enough(begun: bytes) -> bool:
        seen.append(len(begun))
        return len(begun) > 3000

    seen = list[int]()
    begun, whole = await Upload(receive).up_to(20_000, enough)
    assert (len(begun), whole) == (seen[-1], False)
    assert len(seen) < 15


async def no_more() -> dict[str, Any]:
    return {"type": "http.request", "body": b""}
