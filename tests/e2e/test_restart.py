"""What a new user does first: `make run`'s server with a real model, hits, kill -9, hits again."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import aiohttp
import openai
import pytest

from tests.e2e.ground import counted
from tests.harness import ProxyProcess

pytestmark = pytest.mark.serial

QUESTION = "What is a kettle?"
REPHRASED = "What's a kettle?"
MODEL = "smollm2-135m"


def ask(client: openai.OpenAI, question: str) -> tuple[str, str]:
    """Ask with the synchronous SDK; return Cache-Status and text."""
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=200,
    )
    return raw.headers["cache-status"], raw.parse().choices[0].message.content or ""


async def streamed(client: openai.AsyncOpenAI, question: str) -> str:
    """Ask with the asynchronous SDK for a stream; return its text."""
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=200,
        stream=True,
    )
    return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])


async def until_stored(process: ProxyProcess, answers: int) -> None:
    """Wait until so many are counted as stored: from then on they hit, and outlive a kill."""
    stored = 0
    async with asyncio.timeout(10), aiohttp.ClientSession() as http:
        while stored < answers:
            await asyncio.sleep(0.02)
            found = await counted(http, process.proxy, "nearhit_admissions_total", "outcome")
            stored = found.get("stored", 0)


@pytest.mark.slow
async def test_with_nothing_configured_a_real_model_answers_and_its_answers_survive_kill_9(
    tmp_path: Path,
) -> None:
    environ = {"NEARHIT_DATA_DIR": str(tmp_path)}
    first = ProxyProcess(environ=environ)
    try:
        await first.ready()
        client = openai.OpenAI(base_url=first.proxy.base_url, api_key="sk", max_retries=0)
        with client:
            status, text = await asyncio.to_thread(ask, client, QUESTION)
            assert status == "nearhit; fwd=miss"
            assert text.strip()
            await until_stored(first, 1)
            again = await asyncio.to_thread(ask, client, QUESTION)
            near = await asyncio.to_thread(ask, client, REPHRASED)
        assert again == (again[0], text) and again[0].endswith("detail=exact")
        assert near == (near[0], text) and near[0].endswith("detail=semantic")
        async with openai.AsyncOpenAI(base_url=first.proxy.base_url, api_key="sk") as other:
            assert await streamed(other, QUESTION) == text
            told = await streamed(other, "Name the largest ocean on Earth.")
            assert told.strip()
            await until_stored(first, 2)
    finally:
        first.kill()
        first.close()
    second = ProxyProcess(environ=environ)
    try:
        await second.ready()
        client = openai.OpenAI(base_url=second.proxy.base_url, api_key="sk", max_retries=0)
        with client:
            assert (await asyncio.to_thread(ask, client, QUESTION))[1] == text
            status, found = await asyncio.to_thread(ask, client, REPHRASED)
            assert (status.endswith("detail=semantic"), found) == (True, text)
            status, found = await asyncio.to_thread(ask, client, "Name the largest ocean on Earth.")
            assert (status.endswith("detail=exact"), found) == (True, told)
        assert second.stop() == 0
    finally:
        second.close()


async def test_ctrl_c_stops_cleanly(tmp_path: Path) -> None:
    config = tmp_path / "nearhit.yaml"
    config.write_text(
        f"data_dir: {tmp_path}\nupstreams: [{{name: none, base_url: 'http://127.0.0.1:9/v1'}}]\n"
    )
    process = ProxyProcess("--config", str(config))
    try:
        await process.ready()
        assert process.stop(signal.SIGINT) == 0
        words = process.last_words()
        assert "curl http://127.0.0.1" in words
        assert re.search(r"http://127\.0\.0\.1:\d+/admin", words)
        assert "Traceback" not in words
    finally:
        process.close()


async def test_two_servers_cannot_share_a_data_directory(tmp_path: Path) -> None:
    config = tmp_path / "nearhit.yaml"
    config.write_text(
        f"data_dir: {tmp_path}\nupstreams: [{{name: none, base_url: 'http://127.0.0.1:9/v1'}}]\n"
    )
    first = ProxyProcess("--config", str(config))
    second = None
    try:
        await first.ready()
        second = ProxyProcess("--config", str(config))
        with pytest.raises(RuntimeError, match=r"exit 1: nearhit: .*in use by process \d+"):
            await second.ready()
    finally:
        first.close()
        if second is not None:
            second.close()
