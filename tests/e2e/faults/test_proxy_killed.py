"""kill -9 of a proxy amid its writes: nothing acknowledged is lost, nothing purged comes back."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from tests.e2e.faults.model import VISIBLE_AFTER, Model
from tests.e2e.faults.site import Site
from tests.e2e.faults.traffic import Traffic

pytestmark = pytest.mark.serial

WRITES = 2_000
AOF = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")


async def killed_amid_writes(site: Site, seed: int, kills: int) -> None:
    """Write, kill a proxy at random points, and hold what is left against the model."""
    chance = random.Random(seed)
    model = Model()
    traffic = Traffic(site, model, seed)
    share = WRITES // kills
    for round in range(kills):
        writing = asyncio.create_task(traffic.run(share))
        await traffic.until(round * share + chance.randrange(share // 4, share))
        replica = round % len(site.proxies)
        victim = site.proxies[replica]
        durable = model.durable(time.monotonic())
        victim.kill()
        model.killed(time.monotonic())
        victim.start()  # while clients go on trying
        await writing
        await site.ready()
        after = set(model.durable(time.monotonic()))  # what was not taken back meanwhile
        still = [question for question in durable if question in after]
        found = await site.answers(replica, still)
        for question in [question for question in still if not found[question]]:
            # Redis may have been too busy to give its document within 50 ms: once, not always.
            found[question] = await site.until_hit(replica, question, 5)
        model.check(found, still)
    await asyncio.sleep(VISIBLE_AFTER)
    durable = model.durable(time.monotonic())
    assert len(durable) > WRITES / 4
    model.check(await site.converge(list(model.known), 20), durable)


@pytest.mark.slow
async def test_with_sqlite_nothing_acknowledged_is_lost_and_nothing_purged_comes_back(
    site: Site,
) -> None:
    site.proxy(snapshots={"every": "0.5s"})  # so that it dies amid snapshots and truncations, too
    await site.ready()
    await killed_amid_writes(site, seed=1, kills=4)
    assert list((site.data(0) / "snapshots").iterdir())


@pytest.mark.slow
async def test_two_on_redis_lose_nothing_acknowledged_and_bring_back_nothing_purged(
    site: Site,
) -> None:
    redis = await site.redis(*AOF)
    settings: dict[str, Any] = {
        "snapshots": {"every": "1s"},
        "replication": {"max_staleness": "1s"},
    }
    site.proxy(redis.url, **settings)
    await site.proxies[0].ready()
    site.proxy(redis.url, **settings)
    await site.ready()
    await killed_amid_writes(site, seed=2, kills=3)
