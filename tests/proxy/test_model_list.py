from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from proxy.headers import Credential
from proxy.upstream import Upstreams, UpstreamSpec
from tests.fake_upstream import FakeUpstream, Script


@pytest.fixture
async def pair() -> AsyncIterator[tuple[FakeUpstream, FakeUpstream]]:
    async with (
        FakeUpstream("a", models=("gpt-4o", "gpt-5")) as a,
        FakeUpstream("b", models=("llama", "gpt-5", "smol")) as b,
    ):
        yield a, b


def spec(fake: FakeUpstream, *models: str, api_key: str | None = None) -> UpstreamSpec:
    url = fake.base_url
    return UpstreamSpec(name=fake.name, base_url=url, models=models, api_key=api_key)


async def listed(upstreams: Upstreams) -> dict[str, str]:
    """Return the owner of each model."""
    found = await upstreams.models()
    assert found["object"] == "list"
    assert all(model["object"] == "model" for model in found["data"])
    return {model["id"]: model["owned_by"] for model in found["data"]}


async def test_what_upstreams_report_and_what_is_configured_by_name(
    pair: tuple[FakeUpstream, FakeUpstream],
) -> None:
    a, b = pair
    specs = [spec(a, "gpt-*", "o3"), spec(b, "*")]
    async with Upstreams(specs) as upstreams:
        assert await listed(upstreams) == {
            "gpt-4o": "a",
            "gpt-5": "a",  # b has one too, but a call for it goes to a
            "o3": "a",
            "llama": "b",
            "smol": "b",
        }


async def test_a_model_that_no_call_would_reach_is_not_listed(
    pair: tuple[FakeUpstream, FakeUpstream],
) -> None:
    async with Upstreams([spec(pair[0], "gpt-5")]) as upstreams:
        assert await listed(upstreams) == {"gpt-5": "a"}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Script(status=404), id="no such path"),
        pytest.param(Script(status=401), id="not allowed"),
        pytest.param(Script(body=b"<html>"), id="no JSON"),
        pytest.param(Script(body=b"[]"), id="no list object"),
        pytest.param(Script(body=b'{"data": [{"name": "x"}]}'), id="no ids"),
        pytest.param(Script(body=b'{"data": [{"id": ["x"]}]}'), id="ids that are no names"),
        pytest.param(Script(body=b'{"data": 7}'), id="no data"),
        pytest.param(Script(drop=True), id="no answer"),
        pytest.param(Script(delay=60), id="too slow"),
    ],
)
async def test_an_upstream_that_fails_adds_nothing_but_its_configured_names(
    pair: tuple[FakeUpstream, FakeUpstream],
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("proxy.model_list._TIMEOUT", 1.0)  # a busy machine took longer than 0.3
    a, b = pair
    a.default = script
    async with Upstreams([spec(a, "gpt-*", "gpt-4o"), spec(b, "*")]) as upstreams:
        with caplog.at_level(logging.WARNING):
            assert await listed(upstreams) == {"gpt-4o": "a", "llama": "b", "smol": "b"}
    assert "127.0.0.1" not in caplog.text


async def test_upstreams_are_asked_once_for_many_and_again_when_it_is_old(
    pair: tuple[FakeUpstream, FakeUpstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = pair
    async with Upstreams([spec(a, "*")]) as upstreams:
        await asyncio.gather(*(listed(upstreams) for _ in range(20)))
        await listed(upstreams)
        assert len(a.calls) == 1
        monkeypatch.setattr("proxy.model_list._FRESH", -1.0)
        await listed(upstreams)
        assert len(a.calls) == 2


async def test_one_who_hangs_up_does_not_spoil_it_for_the_others(
    pair: tuple[FakeUpstream, FakeUpstream],
) -> None:
    a, _ = pair
    a.default = Script(delay=0.3)
    async with Upstreams([spec(a, "*")]) as upstreams:
        first = asyncio.create_task(listed(upstreams))
        await a.until(lambda: a.open_now == 1)
        second = asyncio.create_task(listed(upstreams))
        first.cancel()
        assert set(await second) == {"gpt-4o", "gpt-5"}
    assert len(a.calls) == 1


async def test_callers_with_their_own_credentials_get_their_own_lists(
    pair: tuple[FakeUpstream, FakeUpstream],
) -> None:
    a, _ = pair
    credentials = [
        Credential((("authorization", "Bearer x"),), None, False),
        Credential((("authorization", "Bearer y"),), None, False),
        Credential((("authorization", "Bearer x"),), None, False),
    ]
    async with Upstreams([spec(a, "*")]) as upstreams:
        for credential in credentials:
            await upstreams.models(credential)
    assert [call.headers["Authorization"] for call in a.calls] == ["Bearer x", "Bearer y"]


async def test_with_keys_configured_all_share_the_upstreams_list(
    pair: tuple[FakeUpstream, FakeUpstream],
) -> None:
    a, _ = pair
    async with Upstreams([spec(a, "*", api_key="own")]) as upstreams:
        for key in ("x", "y"):
            await upstreams.models(Credential((("authorization", f"Bearer {key}"),), None, True))
        await upstreams.models(Credential((), "tenant", True))
    assert [call.headers["Authorization"] for call in a.calls] == ["Bearer own", "Bearer tenant"]


async def test_only_so_many_lists_are_kept(pair: tuple[FakeUpstream, FakeUpstream]) -> None:
    a, _ = pair
    async with Upstreams([spec(a, "*")]) as upstreams:
        for number in range(70):
            await upstreams.models(Credential((("x-api-key", str(number)),), None, False))
        assert len(upstreams._model_list._lists) == 64


async def test_the_list_says_nothing_of_how_fast_calls_are(
    pair: tuple[FakeUpstream, FakeUpstream],
) -> None:
    async with Upstreams([spec(pair[0], "*")]) as upstreams:
        await listed(upstreams)
        assert upstreams.route("x").first_byte_p95() is None
