"""A task ends although the first cancellation is lost on its way."""

from __future__ import annotations

import asyncio

import pytest

from store.redis import stopping
from store.redis.stopping import stop


async def test_tasks_that_have_ended_and_that_run_are_stopped() -> None:
    ended, runs = asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0.01)
    await stop(ended, runs)
    assert not ended.cancelled()
    assert runs.cancelled()
    await stop()


async def test_a_cancellation_that_is_swallowed_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stopping, "_AGAIN", 0.01)

    async def swallow() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(swallow())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await stop(task)
    assert task.done()
