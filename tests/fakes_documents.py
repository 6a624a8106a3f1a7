"""A DocumentStore in memory that can be held up and made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from store.documents.base import Filter, Page, Stored, Summary, position, without_body
from store.entry import Entry, EntryId, Version, size_of
from store.errors import StoreUnavailable
from store.journal import Apply, Approved, Change, Put, Record, Removed
from tests.fakes_records import MemoryRecords
from tests.fakes_usage import MemoryUsage


class MemoryDocuments:
    """Keeps entries in the order in which they were put.

    Clear `writing` or `reading` to hold calls up in the middle; set `failing` to refuse them.
    """

    def __init__(self, *entries: Entry) -> None:
        self.entries = {entry.id: entry for entry in entries}
        self.failing = False
        self.writing = asyncio.Event()
        self.reading = asyncio.Event()
        self.writing.set()
        self.reading.set()
        self.reads = 0
        self.waiting = 0  # writes that have begun
        self.followers: list[Apply] = []
        self.position = 0
        self.records = MemoryRecords(self)
        self.usage = MemoryUsage(self.check)
        self._numbers = {entry.id: number for number, entry in enumerate(entries)}
        self._next = len(entries)
        self._order = asyncio.Lock()
        self._closed = False

    def follow(self, apply: Apply) -> None:
        self.followers.append(apply)

    def tell(self, change: Change, *, own: bool = True) -> None:
        """Record a change, of another process unless it is our own."""
        self.position += 1
        for apply in self.followers:
            apply(Record(self.position, change, own))

    async def put(self, entry: Entry) -> None:
        await self._turn()
        self.entries.pop(entry.id, None)
        self.entries[entry.id] = entry
        self._numbers[entry.id] = self._next
        self._next += 1
        self.tell(Put(without_body(entry)))

    async def get(self, id: EntryId) -> Entry | None:
        self.reads += 1
        self.check()
        found = self.entries.get(id)
        await self.reading.wait()
        return found

    async def purge(self, ids: Sequence[EntryId]) -> int:
        await self._turn()
        gone = [id for id in ids if self.entries.pop(id, None) is not None]
        if gone:
            self.tell(Removed(tuple(gone), purged=True))
        return len(gone)

    async def discard(self, versions: Sequence[Version]) -> int:
        await self._turn()
        there = {(entry.id, entry.created_at) for entry in self.entries.values()}
        gone = [version for version in versions if version in there]
        for id, _ in gone:
            del self.entries[id]
        if gone:
            ids, created = zip(*gone, strict=True)
            self.tell(Removed(ids, purged=False, created=created))
        return len(gone)

    async def approve(self, ids: Sequence[EntryId]) -> int:
        await self._turn()
        shared = [self.entries[id] for id in ids if id in self.entries]
        shared = [entry for entry in shared if entry.shared_key]
        for entry in shared:  # each keeps its place
            self.entries[entry.id] = replace(entry, approved=True)
        if shared:
            self.tell(Approved(tuple(entry.id for entry in shared)))
        return len(shared)

    async def load_all(self, batch: int) -> AsyncIterator[list[Stored]]:
        self.check()
        loaded = [without_body(e) for e in self.entries.values()]
        for start in range(0, len(loaded), batch):
            yield loaded[start : start + batch]

    async def browse(self, filter: Filter, *, limit: int, cursor: str | None = None) -> Page:
        self.check()
        before = position(cursor)
        found = [
            entry
            for entry in reversed(self.entries.values())
            if self._numbers[entry.id] < before
            and filter.id in ("", entry.id)
            and filter.category in ("", entry.category)
            and filter.tenant in ("", entry.tenant)
            and filter.model in ("", entry.model)
            and filter.tag in ("", *entry.tags)
            and entry.query.startswith(filter.prefix)
            and filter.text.lower() in entry.query.lower()
        ]
        more = str(self._numbers[found[limit - 1].id]) if len(found) > limit else None
        return Page(tuple(summary_of(entry) for entry in found[:limit]), more)

    async def count(self) -> int:
        self.check()
        return len(self.entries)

    async def ping(self) -> None:
        self.check()

    async def aclose(self) -> None:
        self._closed = True

    async def _turn(self) -> None:
        self.check()
        self.waiting += 1
        try:
            async with self._order:  # first come, first served
                await self.writing.wait()
                self.check()
        finally:
            self.waiting -= 1

    def check(self) -> None:
        """Raise StoreUnavailable when told to fail, or closed."""
        if self.failing or self._closed:
            raise StoreUnavailable("the memory store is out of order")


def summary_of(entry: Entry) -> Summary:
    """Return the entry's line in a listing."""
    return Summary(
        id=entry.id,
        tenant=entry.tenant,
        user=entry.user,
        category=entry.category,
        route=entry.route,
        model=entry.model,
        query=entry.query,
        tags=entry.tags,
        created_at=entry.created_at,
        size=size_of(entry),
        approved=entry.approved,
    )
