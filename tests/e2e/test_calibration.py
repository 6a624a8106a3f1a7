"""A calibration is in force seconds after it was written, without a restart, and after one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy import calibrated
from store.decision.calibration_file import CALIBRATION, Calibration, write_calibration
from store.decision.score import POOLED, Recalibration, shipped_score
from tests.harness import Proxy, policies, proxy_running, settings_for

BOOK = policies({"name": "default", "error_budget": 0.05})
AT = "2026-11-24T12:00:00+00:00"


async def told(http: aiohttp.ClientSession, proxy: Proxy) -> tuple[str, float]:
    async with http.get(f"{proxy.url}/admin/api/categories/default") as answer:
        budget: dict[str, Any] = (await answer.json())["effective"]["error_budget"]
    async with http.get(f"{proxy.url}/admin/api/overview") as answer:
        (listed,) = (await answer.json())["error_budgets"]
    assert listed["calibration"] == budget["calibration"]
    return budget["calibration"], budget["point"]


async def test_a_calibration_decides_while_the_server_runs_and_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrated, "WATCH_EVERY", 0.05)
    settings = settings_for(tmp_path, "http://127.0.0.1:9")
    shipped = shipped_score()
    new = Recalibration((1.0, 0.0), ((0.05, 0.0123),))
    async with aiohttp.ClientSession() as http:
        async with proxy_running(settings, BOOK) as proxy:
            assert await told(http, proxy) == ("shipped", round(shipped.point("default", 0.05), 6))
            calibration = Calibration(AT, shipped.digest, {POOLED: new})
            write_calibration(calibration, tmp_path / CALIBRATION)
            async with asyncio.timeout(10):
                while await told(http, proxy) != (AT, 0.0123):  # noqa: ASYNC110 - over HTTP
                    await asyncio.sleep(0.05)
        async with proxy_running(settings, BOOK) as proxy:
            assert await told(http, proxy) == (AT, 0.0123)
