"""What is counted reaches the ledger once, whatever the store does."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from proxy.metrics import Metrics
from proxy.outcome import Served
from proxy.usage.counting import Usage
from proxy.usage.keeping import UsageKeeper
from proxy.usage.prices import prices_for
from proxy.usage.reading import EVERY, UsageReader
from store.documents.usage import OTHER, Span
from store.economics import Economics
from store.errors import StoreUnavailable
from tests.entries import NOON
from tests.fakes_usage import MemoryUsage
from tests.proxy.usage.calls import call_of, hit, miss, one


class Stand:
    """A keeper over a ledger in memory, with clocks that stand still."""

    def __init__(self, ledger: MemoryUsage | None = None, most: int = 5_000) -> None:
        self.now = NOON
        self.monotonic = 0.0
        self.ledger = ledger or MemoryUsage()
        self.usage = Usage(
            prices=prices_for("USD", []),
            metrics=Metrics(["default"], ["configured"]),
            economics=Economics(),
        )
        self.keeper = UsageKeeper(
            self.usage, self.ledger, clock=lambda: self.now, most_waiting=most
        )
        self.reader = UsageReader(
            self.keeper, clock=lambda: self.now, monotonic=lambda: self.monotonic
        )

    def count(self, **changes: Any) -> None:
        self.usage.answered(call_of(**changes), miss(), 0.5)

    def requests(self, span: Span = Span.DAY) -> float:
        rows = self.ledger.rows.items()
        return sum(amounts["requests"] for key, amounts in rows if key.span is span)


async def test_what_was_counted_is_added_once_to_every_span() -> None:
    stand = Stand()
    for _ in range(3):
        stand.count()
    await stand.keeper.flush()
    await stand.keeper.flush()
    assert [stand.requests(span) for span in Span] == [3, 3, 3]
    names = {(key.span, key.tenant, key.model) for key in stand.ledger.rows}
    day = (Span.DAY, "acme", "gpt-4o-mini")
    assert names == {(Span.MINUTE, "", ""), (Span.QUARTER, "", ""), day}


async def test_a_store_that_fails_loses_nothing() -> None:
    stand = Stand()
    stand.ledger.failing = True
    for _ in range(3):
        stand.count()
        with pytest.raises(StoreUnavailable):
            await stand.keeper.flush()
    stand.ledger.failing = False
    await stand.keeper.aclose()
    assert stand.requests() == 3


async def test_a_store_that_took_it_and_did_not_say_so_counts_it_once() -> None:
    stand = Stand()
    stand.ledger.deaf = True
    stand.count()
    with pytest.raises(StoreUnavailable):
        await stand.keeper.flush()
    stand.count()
    with pytest.raises(StoreUnavailable):
        await stand.keeper.flush()
    stand.ledger.deaf = False
    await stand.keeper.flush()
    assert stand.requests() == 2


async def test_what_waits_too_long_is_bounded_and_days_go_last() -> None:
    stand = Stand(most=20)
    stand.ledger.failing = True
    for _ in range(60):
        stand.count()
        with pytest.raises(StoreUnavailable):
            await stand.keeper.flush(stand.now)
        stand.now += timedelta(minutes=1)
    stand.ledger.failing = False
    await stand.keeper.flush()
    assert stand.requests(Span.DAY) == 60
    assert 0 < stand.requests(Span.MINUTE) < 60
    assert len(stand.ledger.rows) <= 24


async def test_a_tenant_that_is_forgotten_is_in_no_row() -> None:
    stand = Stand()
    stand.count()
    assert await stand.keeper.forget("acme") == 1
    assert {key.tenant for key in stand.ledger.rows if key.span is Span.DAY} == {OTHER}


async def test_unknown_models_and_too_many_tenants_are_other() -> None:
    stand = Stand()
    for number in range(1_005):
        stand.count(tenant=f"tenant {number}", model=f"made up {number}")
    stand.count(tenant="tenant 1", model="configured")
    await stand.keeper.flush()
    days = [key for key in stand.ledger.rows if key.span is Span.DAY]
    assert {key.model for key in days} == {OTHER, "configured"}
    assert len({key.tenant for key in days}) == 1_001
    assert stand.requests() == 1_006


async def test_more_kinds_than_are_kept_apart_are_counted_together() -> None:
    stand = Stand()
    for number in range(4_200):
        stand.count(model=f"made up {number}")
    assert len(stand.usage._tallies) <= 4_097
    await stand.keeper.flush()
    assert stand.requests() == 4_200


async def test_a_reader_sees_what_is_not_added_yet_and_asks_the_ledger_seldom() -> None:
    stand = Stand()

    async def seen() -> float:
        rows = await stand.reader.recent(Span.MINUTE)
        return sum(row.amounts["requests"] for row in rows)

    stand.count()
    assert [await seen() for _ in range(5)] == [1] * 5
    assert stand.ledger.reads == 1
    await stand.keeper.flush()
    stand.count()
    assert await seen() == 2
    stand.now += timedelta(minutes=1)
    stand.monotonic += EVERY
    other = Stand(stand.ledger)  # another replica
    other.now = stand.now
    other.count()
    await other.keeper.flush()
    assert await seen() == 3
    stand.now += timedelta(minutes=61)
    stand.monotonic += EVERY
    assert await seen() == 1  # what has not been added belongs to now


async def test_days_are_read_with_what_this_process_has_not_added() -> None:
    stand = Stand()
    stand.count()
    await stand.keeper.flush()
    stand.usage.answered(call_of(), hit(), 0.001)
    today = datetime(NOON.year, NOON.month, NOON.day, tzinfo=NOON.tzinfo)
    rows = await stand.reader.days(today, today)
    assert [row.key.outcome for row in rows] == [Served.EXACT, Served.MISS]
    assert one(rows, Served.EXACT)["requests"] == 1
    assert await stand.reader.days(today - timedelta(days=1), today - timedelta(days=1)) == []
