"""Requests that are refused: always OpenAI's envelope, and never a call upstream."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

from tests.fake_upstream import FakeUpstream
from tests.harness import Proxy, digest, policies, proxy_running, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}
KEYS = [
    {"sha256": digest("of-a"), "tenant": "a"},
    {"sha256": digest("narrow"), "tenant": "a", "categories": ["default"]},
    {"sha256": digest("root"), "role": "admin"},
    {"sha256": digest("eyes"), "role": "viewer"},
]
LIMIT = 64 * 1024


@dataclass
class Door:
    """Two proxies before one upstream, `open` without keys and `keyed` with them."""

    upstream: FakeUpstream
    open: Proxy
    keyed: Proxy
    http: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, *, proxy: Proxy | None = None, **request: Any
    ) -> tuple[aiohttp.ClientResponse, Any]:
        """Return an answer and its JSON."""
        url = f"{(proxy or self.open).url}{path}"
        async with self.http.request(method, url, **request) as answer:
            return answer, orjson.loads(await answer.read())

    async def refused(
        self, status: int, method: str, path: str, *, proxy: Proxy | None = None, **request: Any
    ) -> dict[str, Any]:
        """Return the error of a request that must be refused without a call upstream."""
        before = len(self.upstream.calls)
        answer, body = await self.ask(method, path, proxy=proxy, **request)
        assert answer.status == status, body
        assert len(self.upstream.calls) == before
        return error_in(body, answer.headers.get("x-request-id"))


def error_in(body: Any, request_id: str | None) -> dict[str, Any]:
    """Return the error of an answer, having looked at its whole shape."""
    assert request_id
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str) and error["type"]
    return error


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    def settings(name: str, **config: Any) -> Any:
        data_dir: Path = tmp_path_factory.mktemp(name)
        return settings_for(data_dir, upstream.base_url, server={"body_limit": LIMIT}, **config)

    book = policies({"name": "default"}, {"name": "weather"}, {"name": "legal"})
    async with (
        FakeUpstream() as upstream,
        proxy_running(settings("open"), book) as open_to_all,
        proxy_running(settings("keyed", auth={"keys": KEYS}), book) as keyed,
        aiohttp.ClientSession() as http,
    ):
        yield Door(upstream, open_to_all, keyed, http)


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b'{"model": "m",}', id="trailing comma"),
        pytest.param(b"model=m", id="a form"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"text"', id="a string"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"model": "m", "messages": NaN}', id="NaN"),
        pytest.param(b'{"model": "m", "prompt": "\xff\xfe"}', id="invalid UTF-8"),
        pytest.param(b'{"model": "m", "prompt": "\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"model": "m", "messages": ' + b"[" * 9000 + b"]" * 9000 + b"}", id="deep"),
        pytest.param(b"{} {}", id="two objects"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/embeddings"])
async def test_a_body_that_is_no_json_object_is_a_400(door: Door, path: str, body: bytes) -> None:
    error = await door.refused(400, "POST", path, data=body, headers=JSON)
    assert error["code"] == "invalid_json"
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": GOOD["messages"]}, "model"),
        (CHAT, GOOD | {"model": 5}, "model"),
        (CHAT, GOOD | {"model": ""}, "model"),
        (CHAT, GOOD | {"model": ["m"]}, "model"),
        (CHAT, {"model": "m"}, "messages"),
        (CHAT, GOOD | {"messages": []}, "messages"),
        (CHAT, GOOD | {"messages": "Hello?"}, "messages"),
        (CHAT, GOOD | {"messages": {"role": "user"}}, "messages"),
        (CHAT, GOOD | {"messages": ["Hello?"]}, "messages[0]"),
        (CHAT, GOOD | {"messages": [*GOOD["messages"], {"content": "x"}]}, "messages[1].role"),
        (CHAT, GOOD | {"messages": [{"role": 7, "content": "x"}]}, "messages[0].role"),
        (CHAT, GOOD | {"stream": "yes"}, "stream"),
        (CHAT, GOOD | {"stream": 1}, "stream"),
        ("/v1/completions", {"model": "m"}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": 5}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": []}, "prompt"),
        ("/v1/completions", {"prompt": "Hello?"}, "model"),
        ("/v1/responses", {"model": "m"}, "input"),
        ("/v1/responses", {"model": "m", "input": {"role": "user"}}, "input"),
        ("/v1/responses", {"model": "m", "input": ["Hello?"]}, "input[0]"),
        ("/v1/responses", {"input": "Hello?"}, "model"),
        ("/v1/embeddings", {"model": "m"}, "input"),
        ("/v1/embeddings", {"model": "m", "input": True}, "input"),
        ("/v1/embeddings", {"input": "Hello?"}, "model"),
        ("/v1/messages", {"model": "m", "max_tokens": 9}, "messages"),
        ("/v1/messages", GOOD | {"messages": [None]}, "messages[0]"),
        ("/v1/messages", {"messages": GOOD["messages"]}, "model"),
    ],
)
async def test_a_missing_or_mistyped_field_is_named(
    door: Door, path: str, body: Any, param: str
) -> None:
    error = await door.refused(400, "POST", path, json=body)
    assert error["param"] == param
    assert param in error["message"]


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (CHAT, {"temperature": "hot"}),
        (CHAT, {"temperature": []}),
        (CHAT, {"messages": [{"role": "wizard", "content": "Hello?"}]}),
        (CHAT, {"messages": [{"role": "user", "content": 5}]}),
        (CHAT, {"messages": [{"role": "user"}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "smell"}, 5]}]}),
        (CHAT, {"messages": [{"role": "system", "content": "Be brief."}]}),
        (CHAT, {"max_tokens": -1}),
        (CHAT, {"max_tokens": 10**30}),
        (CHAT, {"n": 0}),
        (CHAT, {"best_of": "two"}),
        (CHAT, {"tools": "hammer"}),
        (CHAT, {"tools": [5]}),
        (CHAT, {"stream_options": 5, "stream": True}),
        (CHAT, {"modalities": 7}),
        (CHAT, {"unheard_of": {"x": None}}),
        ("/v1/completions", {"prompt": [1, 2, 3], "suffix": 5}),
        ("/v1/responses", {"input": [{"type": 5, "content": {}}], "include": 3}),
        ("/v1/embeddings", {"input": [{}], "user": 5}),
        ("/v1/messages", {"max_tokens": "all", "system": 5}),
    ],
)
async def test_what_only_the_upstream_can_judge_is_forwarded_word_for_word(
    door: Door, path: str, more: dict[str, Any]
) -> None:
    raw = json.dumps(GOOD | more).encode()
    before = len(door.upstream.calls)
    async with door.http.post(f"{door.open.url}{path}", data=raw, headers=JSON) as answer:
        assert answer.status == 200
        await answer.read()
    assert [bytes(call.raw) for call in door.upstream.calls[before:]] == [raw]


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "image/png"])
async def test_a_body_that_is_not_declared_as_json_is_a_415(door: Door, kind: str) -> None:
    kinds = {"Content-Type": kind}
    error = await door.refused(415, "POST", CHAT, data=orjson.dumps(GOOD), headers=kinds)
    assert "application/json" in error["message"]


async def test_an_encoded_body_is_a_415(door: Door) -> None:
    packed, kinds = gzip.compress(orjson.dumps(GOOD)), {**JSON, "Content-Encoding": "gzip"}
    error = await door.refused(415, "POST", CHAT, data=packed, headers=kinds)
    assert "Content-Encoding" in error["message"]


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
async def test_a_body_over_the_limit_is_a_413(door: Door, announced: bool) -> None:
    whole = orjson.dumps(GOOD | {"padding": "x" * LIMIT * 4})

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), 8192):
            yield whole[start : start + 8192]

    data = whole if announced else pieces()
    error = await door.refused(413, "POST", CHAT, data=data, headers=JSON)
    assert str(LIMIT) in error["message"]
    exact = orjson.dumps(GOOD | {"padding": ""})
    fits = orjson.dumps(GOOD | {"padding": "x" * (LIMIT - len(exact))})
    answer, _ = await door.ask("POST", CHAT, data=fits, headers=JSON)
    assert (len(fits), answer.status) == (LIMIT, 200)


@pytest.mark.parametrize(
    ("status", "method", "path"),
    [
        (404, "GET", "/"),
        (404, "GET", "/v1"),
        (404, "POST", "/v2/chat/completions"),
        (404, "POST", "/chat/completions"),
        (404, "GET", "/admin/api/nonsense"),
        (404, "GET", "/admin/api/entries/nonsense"),
        (405, "POST", "/health"),
        (405, "DELETE", "/metrics"),
        (405, "GET", "/admin/api/purge"),
    ],
)
async def test_an_unknown_path_or_method_of_ours_is_refused(
    door: Door, status: int, method: str, path: str
) -> None:
    await door.refused(status, method, path)


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        pytest.param(
            b'{"all": true', JSON["Content-Type"], "the body is not valid JSON: Exp", id="cut"
        ),
        pytest.param(b"all", JSON["Content-Type"], "the body is not valid JSON: Exp", id="no JSON"),
        pytest.param(
            b'{"all": true, "dry_run": true}',
            "application/x-www-form-urlencoded",
            "send Content-Type: application/json",
            id="as curl sends it",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/admin/api/purge", "/nearhit/feedback"])
async def test_a_body_of_ours_that_cannot_be_read_says_why(
    door: Door, path: str, body: bytes, kind: str, said: str
) -> None:
    error = await door.refused(400, "POST", path, data=body, headers={"Content-Type": kind})
    assert said in error["message"]
    assert error["param"] is None


@pytest.mark.parametrize(
    ("header", "value", "said"),
    [
        ("X-Nearhit-Category", "nonsense", "default, weather, legal"),
        ("X-Nearhit-Category", "", "default, weather, legal"),
        ("X-Nearhit-Threshold", "high", "X-Nearhit-Threshold"),
        ("X-Nearhit-Threshold", "1.5", "X-Nearhit-Threshold"),
        ("X-Nearhit-Threshold", "nan", "X-Nearhit-Threshold"),
        ("X-Nearhit-Tags", "good, two words", "two words"),
        ("X-Nearhit-Tags", ",".join(map(str, range(17))), "16 tags"),
    ],
)
async def test_a_wish_that_cannot_be_read_is_a_400(
    door: Door, header: str, value: str, said: str
) -> None:
    error = await door.refused(400, "POST", CHAT, json=GOOD, headers={header: value})
    assert header in error["message"]
    assert said in error["message"]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"Authorization": "Bearer nobody"}, id="unknown"),
        pytest.param({"Authorization": "Basic of-a"}, id="not a bearer"),
        pytest.param({"Authorization": "Bearer "}, id="empty"),
        pytest.param({"x-api-key": "nobody"}, id="unknown x-api-key"),
        pytest.param({"Authorization": "Bearer of-a", "x-api-key": "root"}, id="two keys"),
        pytest.param({"Authorization": f"Bearer {digest('of-a')}"}, id="a digest"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/files"), ("GET", "/admin/api/entries")],
)
async def test_without_a_known_key_everything_is_a_401(
    door: Door, method: str, path: str, headers: dict[str, str]
) -> None:
    body = {"json": GOOD} if method == "POST" else {}
    error = await door.refused(401, method, path, proxy=door.keyed, headers=headers, **body)
    assert error["type"] == "authentication_error"
    assert not any(key in error["message"] for key in ("nobody", "of-a", "root"))


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        pytest.param("GET", "/admin/api/entries", "of-a", id="a client reads"),
        pytest.param("POST", "/admin/api/purge", "of-a", id="a client purges"),
        pytest.param("GET", "/admin/api/openapi.json", "of-a", id="a client reads the schema"),
        pytest.param("POST", "/admin/api/purge", "eyes", id="a viewer purges"),
        pytest.param("POST", CHAT, "root", id="an admin asks a model"),
        pytest.param("GET", "/v1/models", "eyes", id="a viewer lists models"),
    ],
)
async def test_a_key_of_the_wrong_role_is_a_403(
    door: Door, method: str, path: str, key: str
) -> None:
    body = {"json": GOOD if path == CHAT else {"all": True}} if method == "POST" else {}
    headers = {"Authorization": f"Bearer {key}"}
    error = await door.refused(403, method, path, proxy=door.keyed, headers=headers, **body)
    assert error["type"] == "permission_error"


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", "/admin/api/entries", "root"),
        ("GET", "/admin/api/entries", "eyes"),
        ("GET", "/admin/api/openapi.json", "root"),
        ("GET", "/v1/models", "of-a"),
        ("POST", CHAT, "of-a"),
    ],
)
async def test_a_key_of_the_right_role_gets_through(
    door: Door, method: str, path: str, key: str
) -> None:
    body = {"json": GOOD} if method == "POST" else {}
    for headers in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key}):
        answer, _ = await door.ask(method, path, proxy=door.keyed, headers=headers, **body)
        assert answer.status == 200


async def test_a_category_that_a_key_may_not_choose_is_a_403(door: Door) -> None:
    headers = {"Authorization": "Bearer narrow", "X-Nearhit-Category": "legal"}
    error = await door.refused(403, "POST", CHAT, proxy=door.keyed, json=GOOD, headers=headers)
    assert "default" in error["message"]


async def test_health_and_metrics_need_no_key(door: Door) -> None:
    for path in ("/health", "/ready", "/metrics"):
        async with door.http.get(f"{door.keyed.url}{path}") as answer:
            assert answer.status == 200


# -- what no HTTP client would send


async def raw(proxy: Proxy, sent: bytes) -> tuple[int, dict[str, str], Any]:
    """Send bytes; return status, headers (names in lower case) and JSON of the one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(sent)
    try:
        async with asyncio.timeout(10):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers["content-length"]))
    finally:
        writer.close()
    return int(head[0].split(" ")[1]), headers, orjson.loads(body)


BODY = orjson.dumps(GOOD)


def request(target: str, *lines: str, method: str = "POST", body: bytes = BODY) -> bytes:
    if not any(line.lower().startswith(("content-length", "transfer")) for line in lines):
        lines = (*lines, f"Content-Length: {len(body)}")
    head = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../v1/chat/completions",
        "/v1/./chat/completions",
        "/v1/files/..",
        "/v1/files/../batches",
        "/v1/files/%2e%2e/batches",
        "/v1/files/%2E./batches",
        "/v1/files/..%2fbatches",
        "/v1/files/..;x/batches",
        "/v1/files/..\\batches",
        "/v1/files/%5c..",
        "/v1//chat/completions",
        "/v1/chat//completions",
        "/v1/files/%2f/x",
        "/v1/files/%252e%252e/batches",
        "/v1/files/%0d%0aX-Evil:1",
        "/v1/files/%zz",
        "http://127.0.0.1/v1/chat/completions",
        "http://elsewhere.example/v1/files",
        "*",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_path_that_could_be_read_in_two_ways_is_a_400(
    door: Door, method: str, target: str
) -> None:
    before = len(door.upstream.calls)
    sent = request(target, "Content-Type: application/json", method=method)
    status, headers, body = await raw(door.open, sent)
    assert status == 400
    error_in(body, headers["x-request-id"])
    assert len(door.upstream.calls) == before


@pytest.mark.parametrize("target", ["//v1/chat/completions", "/x/../v1/files", "/%2e%2e/v1/files"])
async def test_a_way_around_our_prefix_leads_nowhere(door: Door, target: str) -> None:
    before = len(door.upstream.calls)
    status, headers, body = await raw(door.open, request(target))
    assert status in (400, 404)
    error_in(body, headers["x-request-id"])
    assert len(door.upstream.calls) == before


LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(request(CHAT, LENGTH, "Transfer-Encoding: chunked", body=CHUNKED), id="both"),
        pytest.param(
            request(CHAT, "Transfer-Encoding: chunked", LENGTH, body=CHUNKED), id="both, reversed"
        ),
        pytest.param(request(CHAT, LENGTH, "Content-Length: 1"), id="two lengths"),
        pytest.param(request(CHAT, "Content-Length: -1"), id="negative length"),
        pytest.param(request(CHAT, "Content-Length: 0x10"), id="length that is no number"),
        pytest.param(
            request(CHAT, "Transfer-Encoding: gzip, chunked", body=CHUNKED), id="other coding"
        ),
        pytest.param(request(CHAT, "Transfer-Encoding: chunked", body=b"zz\r\n"), id="bad chunk"),
        pytest.param(request(CHAT, "Host: elsewhere.example"), id="two hosts"),
        pytest.param(request(CHAT, "X-Odd : 1"), id="space before the colon"),
        pytest.param(request(CHAT, "Upgrade: websocket", "Connection: Upgrade"), id="upgrade"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
    ],
)
async def test_a_message_with_unclear_bounds_is_a_400(door: Door, sent: bytes) -> None:
    before = len(door.upstream.calls)
    status, headers, body = await raw(door.open, sent)
    assert status == 400
    error_in(body, headers["x-request-id"])
    assert headers["connection"] == "close"
    assert len(door.upstream.calls) == before
