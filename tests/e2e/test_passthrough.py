"""Paths that are not cached: byte for byte both ways, within the tenancy rules."""

from __future__ import annotations

import asyncio
import gzip
import io
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import openai
import orjson
import pytest
import pytest_asyncio
from yarl import URL

from tests.fake_upstream import Call, FakeUpstream, Script
from tests.harness import Proxy, digest, proxy_running, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = "/v1/chat/completions"
ENVIRON = {"HOUSE_KEY": "sk-house", "OWN_KEY": "sk-own"}
KEYS = [
    {"sha256": digest("of-a"), "tenant": "a"},
    {"sha256": digest("of-b"), "tenant": "b"},
    {"sha256": digest("of-own"), "tenant": "own", "upstream_key_env": "OWN_KEY"},
]
MIB = 2**20


def asking(content: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


@dataclass
class Way:
    """Three proxies before the same two upstreams: `other` serves claude-*, `upstream` the rest."""

    upstream: FakeUpstream
    other: FakeUpstream
    open: Proxy  # no keys
    single: Proxy  # one tenant; no key for the upstream
    shared: Proxy  # three tenants, and a key for the upstream
    http: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, *, proxy: Proxy | None = None, key: str = "", **sent: Any
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """Return an answer and its body, as it was encoded."""
        if key:
            sent["headers"] = {"Authorization": f"Bearer {key}", **sent.get("headers", {})}
        url = URL(f"{(proxy or self.open).url}{path}", encoded=True)
        async with self.http.request(method, url, allow_redirects=False, **sent) as answer:
            return answer, await answer.read()

    async def seen(self, method: str, path: str, **sent: Any) -> Call:
        """Ask, and return the call that reached the upstream."""
        before = len(self.upstream.calls)
        answer, body = await self.ask(method, path, **sent)
        assert answer.status == 200, body
        assert len(self.upstream.calls) == before + 1
        return self.upstream.calls[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def way(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Way]:
    def settings(name: str, house: bool = False, **config: Any) -> Any:
        main: dict[str, Any] = {"name": "main", "base_url": upstream.base_url, "max_retries": 0}
        if house:
            main["api_key_env"] = "HOUSE_KEY"
        claude = {"name": "claude", "base_url": other.base_url, "models": ["claude-*"]}
        config |= {"upstreams": [claude, main], "server": {"body_limit": 65536}}
        return settings_for(tmp_path_factory.mktemp(name), "", **config)

    one, many = {"keys": KEYS[:1]}, {"keys": KEYS}
    allowed = ["/v1/moderations"]
    async with (
        FakeUpstream() as upstream,
        FakeUpstream("other", models=("claude-tiny",)) as other,
        proxy_running(settings("open")) as open_to_all,
        proxy_running(settings("single", auth=one)) as single,
        proxy_running(
            settings("shared", house=True, auth=many, passthrough=allowed), environ=ENVIRON
        ) as shared,
        aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        yield Way(upstream, other, open_to_all, single, shared, http)


# -- bodies


async def test_a_file_of_several_megabytes_goes_up_and_comes_down_again(way: Way) -> None:
    content = random.Random(1).randbytes(5 * MIB)  # the limit on cacheable bodies is 64 KiB
    async with openai.AsyncOpenAI(base_url=way.open.base_url, api_key="k") as client:
        file = await client.files.create(file=("a.jsonl", content), purpose="batch")
        assert (file.filename, file.bytes) == ("a.jsonl", len(content))
        assert way.upstream.files[file.id] == content
        assert (await client.files.content(file.id)).read() == content


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
async def test_an_upload_flows_while_it_arrives(way: Way, announced: bool) -> None:
    part = b"x" * 65536
    calls = way.upstream.calls
    before = len(calls)

    async def parts() -> AsyncIterator[bytes]:
        yield part
        # Only an upload that is passed on at once can end.
        await way.upstream.until(lambda: len(calls) > before and len(calls[-1].raw) == len(part))
        for _ in range(31):
            yield part

    headers = {"Content-Type": "application/octet-stream"}
    if announced:
        headers["Content-Length"] = str(2 * MIB)
    _, body = await way.ask("POST", "/v1/uploads/u1/parts", data=parts(), headers=headers)
    assert orjson.loads(body)["bytes"] == 2 * MIB
    assert bytes(calls[-1].raw) == part * 32
    assert ("content-length" in calls[-1].headers) is announced


async def test_a_download_flows_while_it_arrives_and_a_hang_up_ends_it(way: Way) -> None:
    way.upstream.files["big"] = b"y" * 48 * MIB
    cancelled = way.upstream.cancelled
    answer = await way.http.get(f"{way.open.base_url}/files/big/content")
    assert (await answer.content.readany()).strip(b"y") == b""
    assert way.upstream.open_now == 1  # still sending
    answer.close()
    await way.upstream.until(lambda: way.upstream.cancelled == cancelled + 1)
    del way.upstream.files["big"]


async def test_a_client_that_hangs_up_within_its_upload_cancels_it(way: Way) -> None:
    cancelled, before = way.upstream.cancelled, len(way.upstream.calls)

    async def parts() -> AsyncIterator[bytes]:
        yield b"x" * 65536
        await asyncio.Event().wait()

    asked = asyncio.create_task(way.ask("POST", "/v1/files", data=parts()))
    await way.upstream.until(
        lambda: len(way.upstream.calls) > before and len(way.upstream.calls[-1].raw) > 0
    )
    asked.cancel()
    await way.upstream.until(lambda: way.upstream.cancelled == cancelled + 1)
    assert not way.upstream.calls[-1].complete


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{ "b":1.0, "a" : [ ] }\n', id="its own spacing and order"),
        pytest.param(b'{"id": 123456789012345678901234567890}', id="a long number"),
        pytest.param(b'{"a": 1, "a": 2}', id="a key twice"),
        pytest.param(b"{not JSON", id="no JSON"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b"[1]", id="a list"),
        pytest.param(b'{"model": 5}', id="a model that is none"),
        pytest.param(b'{"a": "' + b"x" * 2 * MIB + b'"}', id="larger than we read"),
    ],
)
async def test_a_json_body_goes_up_as_it_is(way: Way, raw: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    call = await way.seen("POST", "/v1/batches", data=io.BytesIO(raw), headers=headers)
    assert bytes(call.raw) == raw
    assert call.headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [201, 307, 400, 404, 429, 500, 503])
async def test_an_answer_comes_down_as_it_is(way: Way, status: int) -> None:
    packed = gzip.compress(b'{"as it": "was"}')
    headers = {"Content-Encoding": "gzip", "Location": "/v1/elsewhere", "ETag": '"7"'}
    way.upstream.play(Script(status=status, body=packed, headers=headers))
    before = len(way.upstream.calls)
    answer, body = await way.ask("POST", "/v1/batches", json={})
    assert (answer.status, body) == (status, packed)
    assert {name: answer.headers[name] for name in headers} == headers
    assert answer.headers["x-request-id"]
    assert "cache-status" not in answer.headers
    assert len(way.upstream.calls) == before + 1


async def test_an_upstream_that_closes_early_is_a_502_or_a_broken_answer(way: Way) -> None:
    way.upstream.play(Script(drop=True), Script(body=b"z" * 1000, cut_after=10))
    headers = {"X-Request-Id": "mine-1"}
    answer, body = await way.ask("POST", "/v1/batches", json={}, headers=headers)
    assert answer.status == 502
    assert orjson.loads(body)["error"]["code"] == "upstream_broken"
    assert answer.headers["x-request-id"] == "mine-1"
    with pytest.raises(aiohttp.ClientPayloadError):
        await way.ask("GET", "/v1/files")


# -- paths and methods


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PATCH", "PUT", "OPTIONS", "POST"])
async def test_every_method_goes_up(way: Way, method: str) -> None:
    body = {"data": b"12345"} if method in ("PATCH", "PUT", "POST") else {}
    call = await way.seen(method, "/v1/vector_stores/vs-1", **body)
    assert (call.method, call.target, len(call.raw)) == (
        method,
        "/v1/vector_stores/vs-1",
        5 if body else 0,
    )


@pytest.mark.parametrize(
    "target",
    [
        "/v1/files?limit=2&after=x%20y&a=1&a=2&empty=&flag",
        "/v1/files/a%20b%2Bc+d~e%C3%A9",
        "/v1/models/org%2Fmodel",
        "/v1/files?q=../..%2e//",
        "/v1/files/?x",
        "/v1/completions/",
    ],
)
async def test_a_target_goes_up_word_for_word(way: Way, target: str) -> None:
    assert (await way.seen("GET", target)).target == target


async def test_a_query_string_goes_up_from_cacheable_routes_too_and_counts(way: Way) -> None:
    first = await way.seen("POST", CHAT + "?api-version=1%20a", json=asking("Whose query?"))
    assert first.target == CHAT + "?api-version=1%20a"
    await asyncio.sleep(0.1)
    await way.seen("POST", CHAT + "?api-version=2", json=asking("Whose query?"))


async def test_a_json_body_is_routed_by_its_model(way: Way) -> None:
    elsewhere = len(way.other.calls)
    await way.seen("POST", "/v1/moderations", json={"model": "gpt-x", "input": "?"})
    await way.seen("POST", "/v1/moderations", json={"input": "?"})
    assert len(way.other.calls) == elsewhere
    answer, _ = await way.ask("POST", "/v1/moderations", json={"model": "claude-x", "input": "?"})
    assert answer.status == 200
    assert [call.body["model"] for call in way.other.calls[elsewhere:]] == ["claude-x"]


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
async def test_a_json_body_is_routed_by_its_model_however_it_comes(
    way: Way, tmp_path: Any, announced: bool, long: bool
) -> None:
    sent = orjson.dumps({**asking("x" * 2 * MIB if long else "x"), "model": "claude-x"})

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(sent), 2**20):
            yield sent[start : start + 2**20]

    specs = [
        {"name": "claude", "base_url": way.other.base_url, "models": ["claude-*"]},
        {"name": "main", "base_url": way.upstream.base_url},
    ]
    headers, data = {"Content-Type": "application/json"}, io.BytesIO(sent) if announced else parts()
    asked = len(way.other.calls)
    async with proxy_running(settings_for(tmp_path, "", upstreams=specs)) as proxy:
        path = "/v1/messages/count_tokens"
        answer, body = await way.ask("POST", path, proxy=proxy, data=data, headers=headers)
    assert answer.status == 200, body
    assert [(call.target, bytes(call.raw)) for call in way.other.calls[asked:]] == [(path, sent)]


@pytest.mark.parametrize("size", [10, 3 * MIB], ids=["short", "long"])
async def test_an_upload_is_routed_by_the_model_that_its_form_names(way: Way, size: int) -> None:
    asked, elsewhere = len(way.upstream.calls), len(way.other.calls)
    async with openai.AsyncOpenAI(base_url=way.open.base_url, api_key="k") as client:
        for model in ("claude-whisper", "gpt-transcribe"):
            with suppress(openai.APIError):  # the stand-in transcribes nothing
                await client.with_options(max_retries=0).audio.transcriptions.create(
                    file=("a.wav", b"\0" * size), model=model
                )
    there, here = way.other.calls[elsewhere:], way.upstream.calls[asked:]
    assert [call.target for call in (*there, *here)] == ["/v1/audio/transcriptions"] * 2
    assert b"claude-whisper" in there[0].raw and b"gpt-transcribe" in here[0].raw
    assert all(len(call.raw) > size for call in (*there, *here))


async def test_json_that_is_too_long_to_be_read_goes_up_as_it_comes(way: Way) -> None:
    sent = orjson.dumps(asking("x" * 2 * MIB))

    async def parts() -> AsyncIterator[bytes]:
        yield sent

    headers = {"Content-Type": "application/json"}
    call = await way.seen("POST", "/v1/batches", data=parts(), headers=headers)
    assert bytes(call.raw) == sent


async def test_a_model_is_asked_about_where_it_is_served(way: Way) -> None:
    elsewhere, here = len(way.other.calls), len(way.upstream.calls)
    for method in ("GET", "DELETE"):
        for model in ("claude-tiny", "claude-org%2Ftiny"):
            answer, body = await way.ask(method, f"/v1/models/{model}")
            assert answer.status == 200, body
    assert [call.target for call in way.other.calls[elsewhere:]] == [
        "/v1/models/claude-tiny",
        "/v1/models/claude-org%2Ftiny",
    ] * 2
    assert len(way.upstream.calls) == here


async def test_a_model_that_nobody_serves_is_a_404(way: Way, tmp_path: Any) -> None:
    spec = {"name": "claude", "base_url": way.other.base_url, "models": ["claude-*"]}
    async with proxy_running(settings_for(tmp_path, "", upstreams=[spec])) as proxy:
        for path in ("/v1/moderations", CHAT):
            answer, body = await way.ask("POST", path, proxy=proxy, json=asking("Anyone?"))
            error = orjson.loads(body)["error"]
            assert (answer.status, error["code"], error["param"]) == (
                404,
                "model_not_found",
                "model",
            )


# -- headers

EVERY_ROUTE = pytest.mark.parametrize("path", [CHAT, "/v1/batches"], ids=["cacheable", "other"])


@EVERY_ROUTE
async def test_what_is_between_client_and_proxy_does_not_go_up(way: Way, path: str) -> None:
    dropped = {
        "Cookie": "session=1",
        "X-Nearhit-Tags": "a",
        "X-Nearhit-Anything": "1",
        "Connection": "keep-alive, X-Named",
        "X-Named": "1",
        "Keep-Alive": "5",
        "TE": "trailers",
        "Proxy-Authorization": "Basic x",
    }
    kept = {
        "X-Kept": "caf\u00e9",
        "User-Agent": "mine/1",
        "OpenAI-Beta": "assistants=v2",
        "Accept": "a/b",
    }
    call = await way.seen(
        "POST", path, json=asking(f"What goes up {path}?"), headers=dropped | kept
    )
    assert not set(dropped) - {"Connection"} & set(call.headers)
    assert "X-Named" not in call.headers.get("Connection", "")
    assert {name: call.headers[name] for name in kept} == kept
    assert call.headers["Host"] == f"127.0.0.1:{way.upstream.port}"
    assert call.headers["X-Request-Id"].startswith("req-")


@EVERY_ROUTE
async def test_what_is_between_upstream_and_proxy_does_not_come_down(way: Way, path: str) -> None:
    dropped = {
        "Set-Cookie": "session=1",
        "X-Nearhit-Entry": "forged",
        "X-Nearhit-Similarity": "1.0",
        "Connection": "keep-alive, X-Named",
        "X-Named": "1",
        "Keep-Alive": "5",
        "Proxy-Authenticate": "Basic",
    }
    kept = {"X-Kept": "1", "OpenAI-Processing-Ms": "12"}
    way.upstream.play(Script(headers=dropped | kept))
    answer, _ = await way.ask("POST", path, json=asking(f"What comes down {path}?"))
    assert not set(dropped) - {"Connection"} & set(answer.headers)
    assert "X-Named" not in answer.headers.get("Connection", "")
    assert {name: answer.headers[name] for name in kept} == kept


@EVERY_ROUTE
@pytest.mark.parametrize(
    "credentials",
    [
        {"Authorization": "Bearer sk-mine"},
        {"x-api-key": "sk-mine"},
        {"api-key": "sk-mine"},
        {"Authorization": "Basic bWU6bWU="},
        {},
    ],
)
async def test_without_keys_the_callers_own_credentials_go_up(
    way: Way, path: str, credentials: dict[str, str]
) -> None:
    body = asking(f"May I, {credentials}?")
    call = await way.seen("POST", path, json=body, headers=credentials)
    names = ("Authorization", "x-api-key", "api-key")
    assert {name: call.headers[name] for name in names if name in call.headers} == credentials


@pytest.mark.parametrize(
    ("proxy", "key", "sent_up"),
    [
        pytest.param("single", "of-a", None, id="no key for the upstream"),
        pytest.param("shared", "of-a", "sk-house", id="the upstream's key"),
        pytest.param("shared", "of-own", "sk-own", id="the tenant's key"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", CHAT), ("POST", "/v1/moderations"), ("GET", "/v1/models")]
)
async def test_a_key_of_ours_never_goes_up(
    way: Way, proxy: str, key: str, sent_up: str | None, method: str, path: str
) -> None:
    body = {"json": asking("Whose key?")} if method == "POST" else {}
    door = {"single": way.single, "shared": way.shared}[proxy]
    call = await way.seen(method, path, proxy=door, key=key, **body)
    assert call.headers.get("Authorization") == (sent_up and f"Bearer {sent_up}")
    assert not any(key in value for value in call.headers.values())


async def test_the_upstreams_key_takes_the_place_of_x_api_key(way: Way) -> None:
    sent = {"headers": {"x-api-key": "of-b"}, "json": asking("Which header?")}
    call = await way.seen("POST", "/v1/messages", proxy=way.shared, **sent)
    assert call.headers["x-api-key"] == "sk-house"
    assert "Authorization" not in call.headers


# -- tenants


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/files"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files/file-1/content"),
        ("DELETE", "/v1/files/file-1"),
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", CHAT),
        ("POST", "/v1/batches"),
        ("DELETE", "/v1/models/ft:m"),
        ("POST", "/v1/moderations-of-mine"),
        ("GET", "/v1/files?path=/v1/moderations"),
        ("POST", "/v1/%6doderations"),
    ],
)
async def test_among_several_tenants_stored_objects_are_out_of_reach(
    way: Way, method: str, path: str
) -> None:
    before = len(way.upstream.calls)
    answer, body = await way.ask(method, path, proxy=way.shared, key="of-a")
    error = orjson.loads(body)["error"]
    assert (answer.status, error["type"], error["code"]) == (
        403,
        "permission_error",
        "path_not_allowed",
    )
    assert "`passthrough`" in error["message"] and "upstream key" in error["message"]
    assert len(way.upstream.calls) == before


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/moderations/x?y=1"])
async def test_a_path_that_the_operator_allows_is_open_to_every_tenant(way: Way, path: str) -> None:
    for key in ("of-a", "of-b"):
        assert (await way.seen("POST", path, proxy=way.shared, key=key, json={})).target == path


async def test_a_tenant_with_its_own_upstream_key_reaches_its_own_objects(way: Way) -> None:
    call = await way.seen("GET", "/v1/files", proxy=way.shared, key="of-own")
    assert call.headers["Authorization"] == "Bearer sk-own"


@pytest.mark.parametrize("query", ["", "?limit=1000"])
async def test_every_tenant_sees_which_models_there_are(way: Way, query: str) -> None:
    answer, body = await way.ask("GET", f"/v1/models{query}", proxy=way.shared, key="of-a")
    assert answer.status == 200
    models = {model["id"]: model for model in orjson.loads(body)["data"]}
    assert models.keys() == {"claude-tiny", "gpt-4o-mini"}
    for name, model in models.items():
        path = f"/v1/models/{name}{query}"
        answer, body = await way.ask("GET", path, proxy=way.shared, key="of-a")
        assert (answer.status, orjson.loads(body)) == (200, model)
    before = len(way.upstream.calls)
    answer, _ = await way.ask("GET", f"/v1/models/ft:m{query}", proxy=way.shared, key="of-a")
    assert (answer.status, len(way.upstream.calls)) == (403, before)


async def test_a_single_tenant_reaches_everything(way: Way) -> None:
    await way.seen("GET", "/v1/files", proxy=way.single, key="of-a")
    await way.seen("GET", "/v1/files", proxy=way.open)
