"""What every implementation of UsageLedger promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.documents.sqlite import SqliteDocuments
from store.documents.usage import (
    KEPT,
    LENGTH,
    OTHER,
    Amounts,
    Span,
    UsageKey,
    UsageLedger,
    UsageRow,
    merged,
    start_of,
    starts,
    summed,
)
from store.errors import StoreUnavailable
from tests.entries import NOON
from tests.fakes_usage import MemoryUsage
from tests.redis_stores import ServerOf, connected, redis_documents

TODAY = start_of(Span.DAY, NOON)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(params=["sqlite", "memory", "redis 7", "redis 8"])
async def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: ServerOf
) -> AsyncIterator[UsageLedger]:
    if request.param.startswith("redis"):
        async with redis_documents(redis_server(request.param[-1])) as shared:
            yield shared.usage
    elif request.param == "sqlite":
        documents = SqliteDocuments.open(tmp_path)
        yield documents.usage
        await documents.aclose()
    else:
        yield MemoryUsage()


def day(start: datetime = TODAY, **changes: str) -> UsageKey:
    names = {"tenant": "harbour", "category": "fares", "model": "m", "outcome": "miss"} | changes
    return UsageKey(Span.DAY, start, **names)


def minute(start: datetime, outcome: str = "miss") -> UsageKey:
    return UsageKey(Span.MINUTE, start, "", "fares", "", outcome)


def by_key(rows: list[UsageRow]) -> dict[UsageKey, dict[str, float]]:
    found = {key: dict(amounts) for key, amounts in rows}
    assert len(found) == len(rows), "a key came twice"
    return found


async def all_days(ledger: UsageLedger) -> dict[UsageKey, dict[str, float]]:
    return by_key(await ledger.read(Span.DAY, TODAY - 500 * DAY, TODAY + 9 * DAY))


async def test_an_empty_ledger_has_no_rows(ledger: UsageLedger) -> None:
    assert await all_days(ledger) == {}
    await ledger.add([], batch="nothing")
    assert await all_days(ledger) == {}


async def test_amounts_add_up_metric_by_metric(ledger: UsageLedger) -> None:
    await ledger.add([UsageRow(day(), {"requests": 1, "spent": 0.125})], batch="1")
    await ledger.add([UsageRow(day(), {"requests": 2, "saved": -0.5})], batch="2")
    assert await all_days(ledger) == {day(): {"requests": 3, "spent": 0.125, "saved": -0.5}}


async def test_names_are_kept_apart_whatever_is_in_them(ledger: UsageLedger) -> None:
    odd = 'naïve "🦊", [x]'
    keys = [day(), day(tenant=odd), day(category=odd), day(model=odd), day(outcome=odd)]
    keys += [day(tenant="", category="harbour,fares"), day(tenant='harbour","fares', category="")]
    rows = [UsageRow(key, {"requests": n, odd: 0.5}) for n, key in enumerate(keys, 1)]
    await ledger.add(rows, batch="1")
    assert await all_days(ledger) == {key: dict(amounts) for key, amounts in rows}


async def test_large_counts_and_small_sums_are_exact(ledger: UsageLedger) -> None:
    await ledger.add([UsageRow(day(), {"tokens": 2**52, "spent": 0.1})], batch="1")
    await ledger.add([UsageRow(day(), {"tokens": 1, "spent": 1e-7})], batch="2")
    (found,) = (await all_days(ledger)).values()
    assert found["tokens"] == 2**52 + 1
    assert found["spent"] == pytest.approx(0.1000001, rel=1e-12)


async def test_a_batch_that_is_told_twice_is_added_once(ledger: UsageLedger) -> None:
    rows = [UsageRow(day(), {"requests": 1}), UsageRow(minute(TODAY), {"requests": 1})]
    await ledger.add(rows, batch="one-7")
    await ledger.add(rows, batch="one-7")
    assert await all_days(ledger) == {day(): {"requests": 1}}
    await ledger.add(rows, batch="one-8")
    assert await all_days(ledger) == {day(): {"requests": 2}}


async def test_spans_are_read_apart_and_from_the_first_to_before_the_last(
    ledger: UsageLedger,
) -> None:
    times = [NOON.replace(second=0, microsecond=0) + timedelta(minutes=n) for n in range(4)]
    rows = [UsageRow(minute(time), {"requests": n}) for n, time in enumerate(times)]
    quarter = UsageKey(Span.QUARTER, start_of(Span.QUARTER, NOON), "", "fares", "", "miss")
    await ledger.add([*rows, UsageRow(quarter, {"requests": 9})], batch="1")
    found = by_key(await ledger.read(Span.MINUTE, times[1], times[3]))
    assert set(found) == {minute(times[1]), minute(times[2])}
    late = by_key(await ledger.read(Span.MINUTE, times[1] + timedelta(seconds=1), times[3]))
    assert set(late) == {minute(times[2])}
    assert by_key(await ledger.read(Span.QUARTER, NOON - HOUR, NOON + HOUR)) == {
        quarter: {"requests": 9}
    }


async def test_a_tenant_that_is_folded_counts_as_other_and_the_sums_stay(
    ledger: UsageLedger,
) -> None:
    before = [day(), day(TODAY - DAY), day(outcome="exact"), day(tenant="harbour 2")]
    rows = [UsageRow(key, {"requests": 1, "spent": 0.5}) for key in before]
    rows.append(UsageRow(day(tenant=OTHER), {"requests": 7}))
    await ledger.add(rows, batch="1")
    assert await ledger.fold("harbour", NOON) == 2
    assert await ledger.fold("harbour", NOON) == 0
    assert await ledger.fold(OTHER, NOON) == 0
    assert await all_days(ledger) == {
        day(tenant="harbour 2"): {"requests": 1, "spent": 0.5},
        day(tenant=OTHER): {"requests": 8, "spent": 0.5},
        day(TODAY - DAY, tenant=OTHER): {"requests": 1, "spent": 0.5},
        day(tenant=OTHER, outcome="exact"): {"requests": 1, "spent": 0.5},
    }


async def test_what_is_too_old_leaves_as_other_rows_are_added(tmp_path: Path) -> None:
    documents = SqliteDocuments.open(tmp_path)
    old = [minute(NOON - KEPT[Span.MINUTE] - HOUR), day(TODAY - KEPT[Span.DAY] - DAY)]
    kept = [minute(NOON - HOUR), day(TODAY - KEPT[Span.DAY] + 2 * DAY)]
    await documents.usage.add([UsageRow(key, {"requests": 1}) for key in (*old, *kept)], batch="1")
    await documents.usage.add([UsageRow(minute(NOON), {"requests": 1})], batch="2")
    minutes = await documents.usage.read(Span.MINUTE, NOON - DAY, NOON + DAY)
    assert set(by_key(minutes)) == {kept[0], minute(NOON)}
    assert set(await all_days(documents.usage)) == {kept[1]}
    await documents.aclose()


async def test_redis_forgets_what_is_too_old(redis_server: ServerOf) -> None:
    server = redis_server("7")
    async with redis_documents(server) as shared:
        await shared.usage.add([UsageRow(minute(NOON), {"requests": 1})], batch="1")
        async with connected(server) as connection:
            names = await connection.ask(lambda client: client.keys("*usage*"))
            lives = [await connection.ask(lambda c, n=n: c.ttl(n)) for n in names]  # type: ignore[misc]
        assert len(names) == 2 and all(0 < life <= 90_000 for life in lives)


async def test_a_closed_ledger_says_so(tmp_path: Path) -> None:
    documents = SqliteDocuments.open(tmp_path)
    await documents.aclose()
    with pytest.raises(StoreUnavailable):
        await documents.usage.add([UsageRow(day(), {"requests": 1})], batch="1")
    with pytest.raises(StoreUnavailable):
        await documents.usage.read(Span.DAY, TODAY, NOON)


AMOUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(-(2**40), 2**40), max_size=3)
ROWS = st.lists(
    st.builds(UsageRow, st.sampled_from([day(), day(tenant="x"), minute(TODAY)]), AMOUNTS)
)


def totals(rows: list[UsageRow]) -> dict[UsageKey, Amounts]:
    """Return the sums that are not 0, which whoever adds may leave out."""
    return {
        key: {metric: amount for metric, amount in sorted(amounts.items()) if amount}
        for key, amounts in merged(rows)
        if any(amounts.values())
    }


@given(rows=ROWS, cut=st.integers(0, 20), order=st.randoms())
def test_rows_add_up_to_the_same_in_any_order_and_split(
    rows: list[UsageRow], cut: int, order: object
) -> None:
    shuffled = list(rows)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    in_parts = [*merged(shuffled[:cut]), *merged(shuffled[cut:])]
    assert totals(in_parts) == totals(rows)


@given(left=AMOUNTS, right=AMOUNTS)
def test_a_sum_has_every_metric_of_both(left: Amounts, right: Amounts) -> None:
    total = summed(left, right)
    assert total.keys() == left.keys() | right.keys()
    assert total == summed(right, left)


TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)).map(
    lambda time: time.replace(tzinfo=NOON.tzinfo)
)


@given(span=st.sampled_from(Span), at=TIMES)
def test_a_moment_lies_in_the_span_that_begins_at_its_start(span: Span, at: datetime) -> None:
    start = start_of(span, at)
    assert start <= at < start + LENGTH[span]
    assert start_of(span, start) == start
    assert start_of(Span.DAY, start) == start_of(Span.DAY, at)


@given(span=st.sampled_from(Span), at=TIMES, seconds=st.floats(0, 86_400))
def test_starts_are_all_that_lie_between(span: Span, at: datetime, seconds: float) -> None:
    until = at + timedelta(seconds=seconds)
    found = starts(span, at, until)
    assert all(at <= start < until and start_of(span, start) == start for start in found)
    if KEPT[span] > DAY:
        assert len(found) == len(set(found))
        assert len(found) >= (until - at) // LENGTH[span]
    assert len(found) <= KEPT[span] // LENGTH[span] + 8
