"""The overview: what it shows while the store fails, and what it says of parts and upstreams."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from proxy.balance import EJECT_AFTER, Replica
from proxy.dashboard.overview import charts_of, state_of
from proxy.readiness import Readiness, readiness
from proxy.usage.numbers import course
from store.documents.usage import Span
from store.errors import StoreUnavailable
from tests.entries import NOON


def test_an_upstream_is_healthy_failing_ejected_and_probed() -> None:
    replica = Replica("one")
    assert state_of(replica, 0.0) == "healthy"
    replica.failed(0.0, probe=False)
    assert state_of(replica, 0.0) == "failing"
    for _ in range(EJECT_AFTER - 1):
        replica.failed(0.0, probe=False)
    assert state_of(replica, 0.5) == "ejected"
    assert state_of(replica, 9.0) == "probed next"
    replica.succeeded()
    assert state_of(replica, 9.0) == "healthy"


def test_a_ledger_without_rows_has_empty_charts() -> None:
    drawn = charts_of(course([], Span.MINUTE, NOON, timedelta(hours=1)))
    assert [each.title for each in drawn] == ["Requests", "Hit rate", "Time to answer"]
    assert all(each.rows == () for each in drawn)


async def works() -> None:
    pass


async def fails() -> None:
    raise StoreUnavailable("gone")


async def test_a_part_that_fails_is_named_with_its_error() -> None:
    seen = await readiness({"encoder": works, "store": fails})
    assert seen == (["encoder"], {"store": "StoreUnavailable"})


async def test_pages_look_at_the_parts_now_and_then_and_do_not_wait_for_one_that_hangs() -> None:
    looks, now, hang = 0, 0.0, asyncio.Event()

    async def ping() -> None:
        nonlocal looks
        looks += 1
        if looks > 1:
            await hang.wait()

    parts = Readiness({"store": ping}, lambda: now)
    for _ in range(3):
        assert await parts.recent() == (["store"], {})
    assert looks == 1
    now = 11.0
    for _ in range(3):
        assert await parts.recent() == (["store"], {})
        await asyncio.sleep(0)
    assert looks == 2
    await parts.aclose()
