"""What one proxy has stored answers behind another one, word for word and by meaning."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.ground import MISS, chat
from tests.fake_upstream import FakeUpstream
from tests.harness import ROOT, proxy_running, settings_for

pytestmark = pytest.mark.serial

QUESTION = "How do I descale my kettle with vinegar?"
REPHRASED = "How can I descale my kettle with vinegar?"


async def nearhit(command: str, file: Path, data_dir: Path) -> dict[str, Any]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("NEARHIT_", "OPENAI_"))}
    config = str(data_dir / "nearhit.yaml")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy.cli", command, str(file), "--config", config, "--json"),
        cwd=ROOT,
        env=clean,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    told: dict[str, Any] = json.loads(out)
    return told


async def test_an_export_from_beside_a_server_answers_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "moved.jsonl.gz"
    async with FakeUpstream() as upstream, aiohttp.ClientSession() as http:
        async with proxy_running(settings_for(tmp_path / "here", upstream.base_url)) as proxy:
            _, status, body = await chat(http, proxy, QUESTION)
            assert status == MISS
            await asyncio.sleep(0.1)  # the contract's time until a stored answer hits
            assert (await nearhit("export", file, tmp_path / "here"))["entries"] == 1
        there = settings_for(tmp_path / "there", upstream.base_url)
        told = await nearhit("import", file, tmp_path / "there")
        assert (told["entries"]["stored"], told["entries"]["encoded"]) == (1, 0)
        async with proxy_running(there) as proxy:
            for question, detail in ((QUESTION, "exact"), (REPHRASED, "semantic")):
                _, status, answer = await chat(http, proxy, question)
                assert status.endswith(f"detail={detail}")
                assert json.loads(answer) == json.loads(body)
