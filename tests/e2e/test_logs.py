"""What a serving proxy writes: whatever goes wrong, no text, no key and no password is in it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest

from embed.encoder import Vectors
from embed.errors import EncoderFailed
from proxy.logs import JsonLines, TextLines
from tests.e2e.conftest import Stage
from tests.e2e.ground import chat
from tests.e2e.test_encoder_faults import FakeEncoder
from tests.fake_upstream import Script
from tests.harness import Proxy, ProxyProcess, digest, proxy_running, settings_for

MARK = "zebra"  # in everything that must stay secret
KEY = f"sk-{MARK}-key"
AUTH = {"keys": [{"sha256": digest(KEY), "tenant": "acme"}]}


@contextmanager
def written(form: logging.Formatter) -> Iterator[StringIO]:
    """Give what is logged from `info` on, as this formatter writes it."""
    told, root = StringIO(), logging.getLogger()
    handler = logging.StreamHandler(told)
    handler.setFormatter(form)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield told
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def foreign(texts: Sequence[str]) -> Vectors:
    raise ValueError(f"cannot encode {list(texts)}")


def own(texts: Sequence[str]) -> Vectors:
    raise EncoderFailed("the model is gone")


async def everything_goes_wrong(stage: Stage, proxy: Proxy, encoder: FakeEncoder) -> None:
    async def send(what: str, **more: Any) -> int:
        question = f"{MARK} {what}"
        return (await chat(stage.http, proxy, question, **{"key": KEY, **more}))[0]

    stage.upstream.default = Script(text=f"{MARK} answer")
    assert await send("good") == 200
    assert await send("stream", stream=True) == 200
    for trouble in (foreign, own):
        encoder.trouble = trouble
        assert await send(trouble.__name__) == 200
    encoder.trouble = None
    assert await send("unmeasurable") == 200
    stage.upstream.play(Script(status=500, body=f'{{"error": "{MARK}"}}'.encode()))
    assert await send("failing") == 500
    stage.upstream.play(Script(drop=True))
    assert await send("dropped") == 502
    stage.upstream.play(Script(cut_after=2))
    await send("cut", stream=True)
    stage.upstream.play(Script(body=f"{MARK} is no JSON".encode()))
    await send("garbage")
    assert await send("refused", messages=MARK) == 400
    assert await send("unknown", key=f"sk-{MARK}-other") == 401
    url = f"{proxy.base_url}/chat/completions?key={MARK}"
    for body in (f'{{"{MARK}'.encode(), b'"\xff' + MARK.encode()):
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        async with stage.http.post(url, data=body, headers=headers) as answer:
            assert answer.status == 400
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("form", [TextLines(), JsonLines()], ids=["text", "json"])
async def test_no_text_and_no_secret_is_logged_whatever_goes_wrong(
    stage: Stage, form: logging.Formatter
) -> None:
    encoder = FakeEncoder()
    specs = [{"name": "fake", "base_url": stage.upstream.base_url, "max_retries": 0}]
    settings = settings_for(
        stage.data_dir, "", upstreams=specs, auth=AUTH, logging={"access": True}
    )
    with written(form) as told:
        logging.getLogger("nearhit.access").setLevel(logging.INFO)
        async with proxy_running(settings, encoder=encoder) as proxy:
            await everything_goes_wrong(stage, proxy, encoder)
    text = told.getvalue()
    assert MARK not in text
    assert "encoding failed" in text and "lookup failed" in text  # it did go wrong
    assert text.count("nearhit.access") == 13
    if isinstance(form, JsonLines):
        lines = [json.loads(line) for line in text.splitlines()]
        assert all({"ts", "level", "logger", "message"} <= line.keys() for line in lines)
        failed = [line for line in lines if line["message"].startswith("encoding failed")]
        assert all(line["request_id"].startswith("req-") for line in failed)
        assert any("RuntimeError" in line.get("exception", "") for line in lines)


async def test_the_access_log_says_how_each_request_went(stage: Stage) -> None:
    with written(JsonLines()) as told:
        logging.getLogger("nearhit.access").setLevel(logging.INFO)
        proxy = await stage.proxy(auth=AUTH, logging={"access": True})
        for _ in range(2):
            await chat(stage.http, proxy, "Why is the sky blue?", key=KEY)
            await asyncio.sleep(0.1)
        async with stage.http.get(f"{proxy.url}/health?token={MARK}"):
            pass
    miss, hit, health = [json.loads(line) for line in told.getvalue().splitlines()]
    assert miss["cache"] == "nearhit; fwd=miss" and hit["cache"].startswith("nearhit; hit")
    assert (hit["method"], hit["path"], hit["status"]) == ("POST", "/v1/chat/completions", 200)
    assert (hit["category"], hit["tenant"]) == ("default", "acme")
    assert 0 < hit["seconds"] < miss["seconds"] and hit["request_id"].startswith("req-")
    assert (health["path"], health["status"], health["tenant"]) == ("/health", 200, "")


async def test_nobody_is_written_down_unless_that_is_wanted(stage: Stage) -> None:
    with written(JsonLines()) as told:
        logging.getLogger("nearhit.access").setLevel(logging.INFO)
        proxy = await stage.proxy()
        await chat(stage.http, proxy, "Why is the sky blue?")
    assert told.getvalue() == ""


@pytest.mark.serial
async def test_a_process_writes_json_from_its_first_line_to_its_last(stage: Stage) -> None:
    config = stage.data_dir.parent / "nearhit.yaml"
    base = stage.upstream.base_url
    config.write_text(
        f"data_dir: {stage.data_dir}\nupstreams: [{{name: fake, base_url: '{base}'}}]\n"
        "logging: {format: json, access: true}\n"
    )
    process = ProxyProcess("--config", str(config))
    try:
        await process.ready()
        await chat(stage.http, process.proxy, f"What is a {MARK}?", key=KEY)
        assert process.stop() == 0
        words = process.last_words()
    finally:
        process.close()
    lines = [json.loads(line) for line in words.splitlines()]
    assert any("nearhit is ready" in line["message"] for line in lines)
    assert any(line["logger"] == "nearhit.access" for line in lines)
    assert MARK not in words
