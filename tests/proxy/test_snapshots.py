"""A snapshot is taken when something has changed, and a restart begins with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.snapshots import SnapshotKeeper, read_snapshot
from store.cache import Cache
from store.documents.sqlite import SqliteDocuments
from store.entry import Admission, EntryId
from store.errors import JournalGap, SnapshotFailed
from store.eviction import Quota, Share
from store.index import PartitionedIndex
from store.journal import Mark
from store.membership import Alone
from tests.entries import CHECKPOINT, DIMENSION, KEY, axis, entry

AMPLE = {"default": Share(Quota(entries=1000, bytes=2**30))}


@dataclass
class Life:
    """One run of a process over a directory."""

    cache: Cache
    keeper: SnapshotKeeper
    documents: SqliteDocuments
    restored: int  # entries of the snapshot that it began with


@asynccontextmanager
async def life(directory: Path, shares: dict[str, Share] = AMPLE) -> AsyncIterator[Life]:
    documents = SqliteDocuments.open(directory)
    snapshot = await read_snapshot(
        directory / "snapshots", checkpoint=CHECKPOINT, dimension=DIMENSION
    )
    index = PartitionedIndex(DIMENSION) if snapshot is None else snapshot.index
    since = None if snapshot is None else documents.journal.read(snapshot.mark, 3)
    cache = await Cache.open(
        documents,
        index=index,
        shares=shares,
        checkpoint=CHECKPOINT,
        snapshot=snapshot,
        since=since,
    )
    alone = Alone(await documents.journal.mark())
    documents.follow(lambda record: alone.note(record.position))
    keeper = SnapshotKeeper(
        directory / "snapshots",
        cache=cache,
        current=lambda: (CHECKPOINT, index),
        journal=documents.journal,
        membership=alone,
    )
    yield Life(cache, keeper, documents, 0 if snapshot is None else snapshot.entries)
    await cache.aclose()
    await index.aclose()
    await documents.aclose()


async def put(cache: Cache, id: str, number: int | None = None) -> None:
    vector = None if number is None else axis(number)
    assert await cache.admit(entry(id, vector=vector)) is Admission.STORED


def held(cache: Cache) -> set[str]:
    return {id for id in "abcdef" if cache.exact(EntryId(id)) is not None}


async def test_a_restart_has_the_snapshot_and_what_came_after_it(tmp_path: Path) -> None:
    async with life(tmp_path) as first:
        await put(first.cache, "a", 1)
        await put(first.cache, "b", 2)
        await put(first.cache, "c")
        assert await first.keeper.take()
        await put(first.cache, "d", 3)
        await put(first.cache, "b", 4)  # in place of the other
        await first.cache.remove([EntryId("a")])
    async with life(tmp_path) as second:
        assert second.restored == 3
        assert held(second.cache) == {"b", "c", "d"}
        (found,) = await second.cache.similar(KEY, axis(4), 1, checkpoint=CHECKPOINT)
        assert (found.held.id, round(found.similarity, 3)) == ("b", 1.0)
        assert all(
            c.held.id != "a"
            for c in await second.cache.similar(KEY, axis(1), checkpoint=CHECKPOINT)
        )


async def test_nothing_is_taken_while_nothing_changes(tmp_path: Path) -> None:
    async with life(tmp_path) as one:
        assert not await one.keeper.take()
        await put(one.cache, "a")
        assert await one.keeper.take()
        assert not await one.keeper.take()


async def test_the_journal_is_cut_behind_a_snapshot(tmp_path: Path) -> None:
    async with life(tmp_path) as one:
        await put(one.cache, "a")
        before = await one.documents.journal.mark()
        await put(one.cache, "b")
        assert await one.keeper.take()
        left = [part async for part in one.documents.journal.read(
            await one.documents.journal.mark(), 10)]  # fmt: skip
        assert left == []
        assert before.position < (await one.documents.journal.mark()).position


async def test_without_snapshots_the_journal_is_cut_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.snapshots.CUT_SECONDS", 0.001)
    async with life(tmp_path) as one:
        await put(one.cache, "a")
        assert await one.keeper.take()  # as a server does that ends
        before = await one.documents.journal.mark()
        await put(one.cache, "b")
        keeping = asyncio.create_task(one.keeper.keep(0.0))
        async with asyncio.timeout(30):
            while not await is_cut(one.documents, before):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_the_journal_is_kept_in_bounds_though_no_snapshot_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise SnapshotFailed("the disk is full")

    monkeypatch.setattr("proxy.snapshots.take", fails)
    cut = list[Mark]()

    async def truncate(until: Mark) -> None:
        cut.append(until)

    async with life(tmp_path) as one:
        before = await one.documents.journal.mark()
        await put(one.cache, "a")
        monkeypatch.setattr(one.documents.journal, "truncate", truncate)
        assert not await one.keeper.take()
        assert cut == [before]  # no further than the last one that was


async def test_replicas_keep_the_journal_in_bounds_between_rare_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.snapshots.CUT_SECONDS", 0.001)
    monkeypatch.setattr(Alone, "shared", True)
    cut = asyncio.Queue[Mark]()
    async with life(tmp_path) as one:
        before = await one.documents.journal.mark()
        monkeypatch.setattr(one.documents.journal, "truncate", cut.put)
        await put(one.cache, "a")
        keeping = asyncio.create_task(one.keeper.keep(1000.0))
        async with asyncio.timeout(30):
            assert [await cut.get(), await cut.get()] == [before, before]
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def is_cut(documents: SqliteDocuments, after: Mark) -> bool:
    try:
        return [part async for part in documents.journal.read(after, 10)] == []
    except JournalGap:
        return True


async def test_a_damaged_snapshot_is_left_alone_and_everything_is_loaded(tmp_path: Path) -> None:
    async with life(tmp_path) as first:
        await put(first.cache, "a", 1)
        await first.keeper.take()
    (folder,) = (tmp_path / "snapshots").iterdir()
    file = folder / "held.bin"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(bytes(damaged))
    async with life(tmp_path) as second:
        assert second.restored == 0
        assert held(second.cache) == {"a"}
        assert len(await second.cache.similar(KEY, axis(1), checkpoint=CHECKPOINT)) == 1


async def test_entries_that_quotas_no_longer_admit_leave_the_index_too(tmp_path: Path) -> None:
    async with life(tmp_path) as first:
        for number, id in enumerate("abc"):
            await put(first.cache, id, number)
        await first.keeper.take()
    small = {"default": Share(Quota(entries=1, bytes=2**30))}
    async with life(tmp_path, small) as second:
        assert held(second.cache) == {"c"}
        assert [
            c.held.id for c in await second.cache.similar(KEY, axis(0), checkpoint=CHECKPOINT)
        ] == ["c"]
    async with life(tmp_path) as third:
        assert held(third.cache) == {"c"}
