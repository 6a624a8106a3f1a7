"""The only door to what is stored: look up, admit, remove.

Memory is the truth about what may be served, and every change to it happens in one step of the
event loop. An entry becomes visible when its record in the journal is applied, here and in every
other process; what is removed becomes invisible here at once, and elsewhere by its record. A row
that memory does not hold is owed a deletion.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Self

from store.deletions import DELETED_AT_ONCE, Deletions, slices
from store.documents.base import DocumentStore, Stored, held_of, without_body
from store.entry import (
    Admission,
    Candidate,
    Entry,
    EntryId,
    Facts,
    Held,
    PartitionKey,
    Vector,
    Version,
    size_of,
)
from store.errors import StoreUnavailable
from store.eviction import Share
from store.hot import Document
from store.index import VectorIndex
from store.journal import Approved, Mark, Put, Record, Removed
from store.memory import Memory
from store.purges import Purges
from store.snapshot import Contents, Snapshot
from store.vectors import EntryVectors, Maker, nothing_made
from store.writes import Writes

HOT_BYTES = 64 * 2**20
RESTORED_AT_ONCE = 500  # entries between two turns of the event loop
SWEPT_AT_ONCE = 256
WARMED_AT_ONCE = 32
WARMING_PAUSE = 0.05  # seconds between two steps: whoever asks meanwhile goes first

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]  # (done, total)


def nothing(held: Held) -> bool:
    """Bar no entry."""
    return False


class Cache:
    """Entries by exact key and by meaning. All methods are called from one event loop."""

    def __init__(
        self,
        documents: DocumentStore,
        *,
        index: VectorIndex,
        shares: Mapping[str, Share],
        checkpoint: str,
        hot_bytes: int,
        made: Maker = nothing_made,
    ) -> None:
        self._documents = documents
        self._writes = Writes()
        self.purges = Purges(self._writes)
        self._deletions = Deletions(documents.discard, wanted=self._is_wanted)
        self.vectors = EntryVectors(checkpoint, index, made)
        self._memory = Memory(self.vectors, shares, hot_bytes, self._deletions.owe)
        self._expired: Counter[str] = Counter()

    @classmethod
    async def open(
        cls,
        documents: DocumentStore,
        *,
        index: VectorIndex,
        shares: Mapping[str, Share],
        checkpoint: str,
        hot_bytes: int = HOT_BYTES,
        snapshot: Snapshot | None = None,
        since: AsyncIterable[list[Record]] | None = None,
        barred: Callable[[Held], bool] = nothing,
        made: Maker = nothing_made,
        on_progress: Progress | None = None,
    ) -> Self:
        """Restore what is stored, the most recently put last to go.

        Entries of another checkpoint than the index's are found by their exact key only, but for
        those that `made` has the vectors of. Raises StoreUnavailable.
        With a snapshot, whose index this must be, it is restored instead, and then what the
        journal has recorded `since`; raises SnapshotInvalid or JournalGap, and is of no use then.
        `barred` names what was purged though it is stored: it is not restored, and goes.
        """
        cache = cls(
            documents,
            index=index,
            shares=shares,
            checkpoint=checkpoint,
            hot_bytes=hot_bytes,
            made=made,
        )
        if snapshot is None:
            await cache._load(barred, on_progress)
        else:
            await cache._load_snapshot(snapshot, checkpoint, barred, on_progress)
            if since is not None:
                async for part in since:
                    for record in part:
                        cache.apply(record._replace(own=False))
            await cache.shrink()
        documents.follow(cache.apply)  # last: a cache that could not be opened must change nothing
        return cache

    async def reload(self, barred: Callable[[Held], bool] = nothing) -> None:
        """Forget everything and restore what is stored, as `open` does."""
        for part in slices(list(self._memory.held), SWEPT_AT_ONCE):
            self._memory.let_all_go(part)
            await asyncio.sleep(0)
        await self._load(barred, None)

    async def _load(self, barred: Callable[[Held], bool], on_progress: Progress | None) -> None:
        total, done = await self._documents.count(), 0
        purged: list[Version] = []
        async for batch in self._documents.load_all(RESTORED_AT_ONCE):
            for stored in batch:
                if barred(stored.held):
                    purged.append(stored.held.version)
                else:
                    self._restore(stored)
            done += len(batch)
            if on_progress is not None:
                on_progress(done, total)
        if done < total:
            logger.warning("left out %d damaged entries of %d", total - done, total)
        for part in slices(purged, DELETED_AT_ONCE):
            await self._documents.discard(part)
        self._deletions.pay_soon()

    def exact(self, id: EntryId) -> Held | None:
        """Return what is held under the exact key."""
        return self._memory.held.get(id)

    async def similar(
        self, key: PartitionKey, vector: Vector, k: int = 4, *, checkpoint: str
    ) -> list[Candidate]:
        """Return up to k live entries of the partition, nearest first.

        `vector` was made by this checkpoint, has shape (d,) and unit length; it is compared with
        vectors of that checkpoint only. None are found if the cache has no index of it.
        """
        neighbors = await self.vectors.search(checkpoint, key, vector, k)
        return [Candidate(self._memory.held[id], similarity) for id, similarity in neighbors]

    def touch(self, id: EntryId) -> None:
        """Note that the entry was served."""
        self._memory.occupancy.touch(id)

    def hits(self, id: EntryId) -> float:
        """Return how often an entry was used, old uses counting less; 0 if it is not held."""
        return self._memory.occupancy.hits(id)

    def twins(self, shared_key: str) -> list[Held]:
        """Return what is held of all tenants under one exact key of scope shared."""
        return [self._memory.held[id] for id in self._memory.twins.get(shared_key, ())]

    async def approve(self, ids: Sequence[EntryId]) -> int:
        """Let shared entries serve other tenants; durable on return; return how many were held.

        Raises StoreUnavailable.
        """
        held = [id for id in ids if id in self._memory.held]
        await self._documents.approve(held)
        return len(held)

    def apply(self, record: Record) -> None:
        """Take up a change that is durable: of this process, of another, or of before a restart."""
        change = record.change
        if isinstance(change, Put):
            if not (record.own and self._is_void(change.stored.held)):
                self._memory.take_up(change.stored, own=record.own)
        elif isinstance(change, Removed):
            created = dict(zip(change.ids, change.created, strict=False))
            for id in change.ids:
                gone = self._memory.held.get(id)
                if gone is not None and created.get(id, gone.created_at) == gone.created_at:
                    self._memory.let_go(id)
        elif isinstance(change, Approved):
            for id in change.ids:
                if (entry := self._memory.held.get(id)) is not None:
                    self._memory.held[id] = entry.approving()

    def set_shares(self, shares: Mapping[str, Share]) -> None:
        """Take other quotas and priorities; `shrink` brings what is held within them."""
        self._memory.occupancy.set_shares(shares)

    async def shrink(self) -> int:
        """Let go of what no quota has room for any more, a slice at a time; return how many."""
        count = 0
        while doomed := self._memory.occupancy.overfull():
            for id in doomed:
                self._memory.evict(id)
            count += len(doomed)
            await asyncio.sleep(0)
        self._deletions.pay_soon()
        return count

    def hot(self, id: EntryId) -> Document | None:
        """Return the entry's document if it is ready in memory."""
        return self._memory.hot.get(id)

    async def document(self, id: EntryId) -> Document | None:
        """Return the document of a held entry; None when it is gone. Raises StoreUnavailable."""
        held = self._memory.held.get(id)
        if held is None:
            return None
        ready = self._memory.hot.get(id)
        if ready is not None:
            return ready
        entry = await self._documents.get(id)
        if self._memory.held.get(id) is not held:  # removed or replaced while it was fetched
            return self._memory.hot.get(id)
        if entry is None or held_of(entry) != held:
            if id in self._writes:  # just being replaced
                return None
            if entry is None:  # lost or damaged
                self._memory.discard(held)
                self._deletions.pay_soon()
            else:  # another process has replaced it, and its record is on its way
                self._memory.let_go(id)
            return None
        document = Document(entry.body, entry.content_type)
        self._memory.hot.put(id, document)
        return document

    def newest(self, most: int) -> list[EntryId]:
        """Return what was stored last, the newest first."""
        return list(islice(reversed(self._memory.held), most))

    async def warm(self) -> int:
        """Bring documents back into memory after a restart, the newest first; return how many.

        Takes half of the room at most, in small steps. Raises StoreUnavailable.
        """
        count = 0
        for part in slices(list(reversed(self._memory.held)), WARMED_AT_ONCE):
            for id in part:
                if not self._memory.hot.has_room:
                    return count
                count += self._memory.hot.get(id) is None and await self.document(id) is not None
            await asyncio.sleep(WARMING_PAUSE)
        return count

    async def admit(self, entry: Entry, asked: int | None = None) -> Admission:
        """Store the entry in place of any other with its id; lookups see it once it is durable.

        `asked` is the place among `purges` at which its answer was asked for; None: just now.
        Raises ValueError for a vector that the index cannot take, or as many of earlier turns as
        there are none.
        """
        if not self._memory.occupancy.admits(entry.category, size_of(entry)):
            return Admission.TOO_LARGE
        if len(entry.earlier_vectors) not in (0, len(entry.earlier)):
            raise ValueError(
                f"{len(entry.earlier_vectors)} vectors of {len(entry.earlier)} earlier turns"
            )
        self.vectors.check(without_body(entry))
        if asked is not None and self.purges.took(entry, asked):
            return Admission.REMOVED
        write = self._writes.begin(entry)
        try:
            await self._documents.put(entry)
            if write.void:
                return Admission.REMOVED
            if self._memory.held.get(entry.id) == write.held:
                self._memory.hot.put(entry.id, Document(entry.body, entry.content_type))
            return Admission.STORED
        except StoreUnavailable as error:
            logger.warning("entry %s was not stored: %s", entry.id, error)
            return Admission.STORE_FAILED
        finally:
            self._writes.end(write)
            self._deletions.owe(write.held.version)
            self._deletions.pay_soon()

    async def remove(self, ids: Iterable[EntryId]) -> int:
        """Remove entries, and what is being admitted under their ids; return how many were held.

        Nothing serves them after the return. When StoreUnavailable is raised, memory has let go
        of them all the same, and their rows are deleted as soon as the store works again.
        """
        doomed = list(dict.fromkeys(ids))
        gone: list[Version] = []
        for part in slices(doomed, DELETED_AT_ONCE):
            for id in part:
                self._writes.give_up(id)
                if (held := self._memory.let_go(id)) is not None:
                    gone.append(held.version)
            await asyncio.sleep(0)
        try:
            for part in slices(doomed, DELETED_AT_ONCE):
                await self._documents.purge(part)
        except BaseException:
            for version in gone:
                self._deletions.owe(version)
            raise
        return len(gone)

    async def sweep(self, expired: Callable[[Held, datetime], bool], now: datetime) -> int:
        """Remove the entries that have expired, a slice at a time; return how many."""
        count = 0
        for part in slices(list(self._memory.held.values()), SWEPT_AT_ONCE):
            for held in part:
                if self._memory.held.get(held.id) is held and expired(held, now):
                    self._memory.discard(held)
                    self._expired[held.category] += 1
                    count += 1
            await asyncio.sleep(0)
        self._deletions.pay_soon()
        return count

    def facts(self) -> Facts:
        """Return the numbers of this moment."""
        return Facts(
            entries=dict(self._memory.entries),
            bytes={name: self._memory.occupancy.bytes(name) for name in self._memory.entries},
            hot_bytes=self._memory.hot.bytes,
            evicted=dict(self._memory.evicted),
            expired=dict(self._expired),
            deletions_owed=len(self._deletions),
        )

    async def aclose(self) -> None:
        """Finish the deletions that are owed, as far as the store lets us."""
        await self._deletions.aclose()

    def contents(self, mark: Mark, checkpoint: str) -> Contents:
        """Return what a snapshot of this checkpoint's index, as of `mark`, holds besides it."""
        earlier = self.vectors[checkpoint].earlier
        return Contents(mark, self._memory.held.values(), earlier, list(self._deletions))

    def held(self) -> list[Held]:
        """Return all entries of this moment, in the order of their puts."""
        return list(self._memory.held.values())

    async def _load_snapshot(
        self,
        snapshot: Snapshot,
        checkpoint: str,
        barred: Callable[[Held], bool],
        on_progress: Progress | None,
    ) -> None:
        done, purged, place = 0, list[Version](), self.vectors[checkpoint]
        for batch in snapshot.held():
            for held, past in batch:
                if barred(held):
                    purged.append(held.version)
                elif self._memory.occupancy.admits(held.category, held.size):
                    self._memory.make_room(held)
                    self._memory.keep(held)
                    if any(vector is not None for vector in past):
                        place.earlier[held.id] = past
                    continue
                place.index.remove(held.key, held.id)
                self._deletions.owe(held.version)
            done += len(batch)
            if on_progress is not None:
                on_progress(done, snapshot.entries)
            await asyncio.sleep(0)
        for version in snapshot.owed:
            self._deletions.owe(version)
        for part in slices(purged, DELETED_AT_ONCE):
            await self._documents.discard(part)

    def _restore(self, stored: Stored) -> None:
        held = stored.held
        if not self._memory.occupancy.admits(held.category, held.size):
            self._deletions.owe(held.version)
            return
        self.vectors.check(stored)
        self._memory.take_up(stored, own=True)

    def _is_void(self, held: Held) -> bool:
        """Whether the put of this version was given up on while it was on its way."""
        mine = self._writes.of(held.version)
        return all(write.void for write in mine) if mine else held.version in self._deletions

    def _is_wanted(self, version: Version) -> bool:
        """Whether the row is held, or a write is about to decide about it."""
        held = self._memory.held.get(version.id)
        return (held is not None and held.version == version) or bool(self._writes.of(version))
