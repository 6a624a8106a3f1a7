from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from store.documents.records import AuditRow, Bounds, PolicyVersion
from store.documents.sqlite import SqliteDocuments
from store.entry import EntryId, Version
from store.errors import JournalGap, StoreUnavailable
from store.journal import (
    Approved,
    Mark,
    PolicyAdded,
    Put,
    Record,
    Released,
    Removed,
    Stopped,
    TenantForgotten,
)
from tests.entries import NOON, entry

A, B, C = EntryId("a"), EntryId("b"), EntryId("c")


@pytest.fixture
async def documents(tmp_path: Path) -> AsyncIterator[SqliteDocuments]:
    store = SqliteDocuments.open(tmp_path)
    yield store
    await store.aclose()


async def recorded(documents: SqliteDocuments, after: int = 0, batch: int = 100) -> list[Record]:
    epoch = (await documents.journal.mark()).epoch
    mark = Mark(epoch, after)
    return [record async for part in documents.journal.read(mark, batch) for record in part]


async def change_everything(documents: SqliteDocuments) -> None:
    records = documents.records
    for id in "abc":
        await documents.put(entry(id, shared_key="s"))
    await documents.approve([A, EntryId("none")])
    await documents.purge([B, EntryId("none")])
    await documents.discard([Version(A, NOON + timedelta(1))])  # changes nothing
    await records.quarantine(A, "harbour", NOON, "feedback")
    assert await records.release(A, "harbour")
    assert not await records.release(A, "harbour")
    await records.forget_tenant("harbour")
    version = PolicyVersion(at=NOON, who="ops", source="api", seed="", document="{}")
    await records.add_version(version, AuditRow(at=NOON, who="ops", action="policy.put"))


async def test_every_change_is_told_in_order_and_can_be_read_again(
    documents: SqliteDocuments,
) -> None:
    told: list[Record] = []
    documents.follow(told.append)
    await change_everything(documents)
    kinds = [Put, Put, Put, Approved, Removed, Stopped, Released, TenantForgotten, PolicyAdded]
    assert [type(record.change) for record in told] == kinds
    assert [record.position for record in told] == list(range(1, 10))
    assert told[4].change == Removed((B,), purged=True)
    again = await recorded(documents, batch=2)
    # What b's put stored is gone, which the removal says anyway.
    assert [r.position for r in again] == [1, 3, 4, 5, 6, 7, 8, 9]
    assert [r.change for r in again[2:]] == [r.change for r in told[3:]]
    first = again[0].change
    assert isinstance(first, Put) and first.stored.held.approved  # as it is now


async def test_a_quarantine_that_another_one_pushes_out_is_released(tmp_path: Path) -> None:
    documents = SqliteDocuments.open(tmp_path, bounds=Bounds(quarantine=1))
    told: list[Record] = []
    documents.follow(told.append)
    for id in (A, B):
        await documents.records.quarantine(id, "harbour", NOON, "feedback")
    assert [record.change for record in told] == [
        Stopped(A, "harbour"),
        Stopped(B, "harbour"),
        Released(A, "harbour"),
    ]
    assert await recorded(documents) == told
    await documents.aclose()


async def test_a_write_that_fails_leaves_no_record(documents: SqliteDocuments) -> None:
    broken = replace(entry("a"), tags=(object(),))  # type: ignore[arg-type]
    told: list[Record] = []
    documents.follow(told.append)
    with pytest.raises(StoreUnavailable):
        await documents.put(broken)
    await documents.put(entry("b"))
    assert [record.change.stored.held.id for record in told if isinstance(record.change, Put)] == [
        "b"
    ]
    assert len(await recorded(documents)) == 1


async def test_a_change_is_told_even_if_whoever_made_it_has_gone(
    documents: SqliteDocuments,
) -> None:
    told = asyncio.Event()
    documents.follow(lambda record: told.set())
    put = asyncio.create_task(documents.put(entry("a")))
    await asyncio.sleep(0)  # queued
    put.cancel()
    async with asyncio.timeout(5):
        await told.wait()
    assert await documents.get(A) is not None


async def test_records_before_a_snapshot_are_let_go(documents: SqliteDocuments) -> None:
    await change_everything(documents)
    mark = await documents.journal.mark()
    await documents.journal.truncate(mark._replace(position=5))
    assert [record.position for record in await recorded(documents, after=5)] == [6, 7, 8, 9]
    with pytest.raises(JournalGap):
        await recorded(documents, after=4)
    await documents.journal.truncate(mark)
    assert await recorded(documents, after=9) == []
    assert await documents.journal.mark() == mark  # an empty journal still knows where it is
    await documents.put(entry("d"))
    assert [record.position for record in await recorded(documents, after=9)] == [10]


async def test_a_mark_of_another_journal_is_a_gap(
    documents: SqliteDocuments, tmp_path: Path
) -> None:
    await documents.put(entry("a"))
    other = SqliteDocuments.open(tmp_path / "other")
    foreign = await other.journal.mark()
    await other.aclose()
    for mark in (foreign, (await documents.journal.mark())._replace(position=2)):
        with pytest.raises(JournalGap):
            [part async for part in documents.journal.read(mark, 10)]


async def test_the_journal_outlives_its_process(tmp_path: Path) -> None:
    first = SqliteDocuments.open(tmp_path)
    await first.put(entry("a"))
    mark = await first.journal.mark()
    await first.aclose()
    second = SqliteDocuments.open(tmp_path)
    assert await second.journal.mark() == mark
    assert len(await recorded(second)) == 1
    await second.aclose()
