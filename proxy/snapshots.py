"""Copies of memory on this process's own disk: taken now and then, and at the end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from store.cache import Cache
from store.errors import SnapshotFailed, SnapshotInvalid, StoreUnavailable
from store.index import PartitionedIndex
from store.journal import Journal, Mark
from store.membership import Membership
from store.snapshot import Snapshot, read, take

log = logging.getLogger("nearhit.snapshots")

FOLDER = "snapshots"
CUT_SECONDS = 600.0  # between two looks at the journal where snapshots are rarer, or none


class SnapshotKeeper:
    """Takes snapshots when something has changed, one at a time."""

    def __init__(
        self,
        directory: Path,
        *,
        cache: Cache,
        current: Callable[[], tuple[str, PartitionedIndex]],
        journal: Journal,
        membership: Membership,
    ) -> None:
        """`current` gives the checkpoint in force, and its index."""
        self._directory = directory
        self._cache = cache
        self._current = current
        self._journal = journal
        self._membership = membership
        self._taken = (current()[0], membership.mark)
        self._turn = asyncio.Lock()
        self.taken_at = 0.0  # seconds since 1970; 0: none yet

    async def take(self) -> bool:
        """Take a snapshot if anything has changed; return whether one was taken.

        A failure is logged: what is stored is the truth, and the snapshot before stays.
        """
        async with self._turn:
            checkpoint, index = self._current()
            if not self._membership.fresh or self._taken == (checkpoint, self._membership.mark):
                return False
            try:
                taken = await take(
                    self._directory,
                    checkpoint=checkpoint,
                    index=index,
                    contents=lambda: self._cache.contents(self._membership.mark, checkpoint),
                )
                self._taken = (checkpoint, taken.mark)
                self.taken_at = time.time()
            except (SnapshotFailed, StoreUnavailable) as error:
                log.warning("%s", error)
                await self._cut(self._taken[1])  # its bound holds though none can be written
                return False
            await self._cut(taken.mark)
            log.info("a snapshot is taken; requests waited %.0f ms", taken.stall * 1000)
            return True

    async def keep(self, every: float) -> None:
        """Take one every so many seconds, none if that is 0, and keep the journal short between."""
        due = every
        while True:
            pause = min(every and due, CUT_SECONDS) or CUT_SECONDS
            await asyncio.sleep(pause)
            due -= pause
            if not every:
                await self.cut()
            elif due <= 0:
                await self.take()
                due = every
            elif self._membership.shared:  # others too may fill the journal
                await self._cut(self._taken[1])

    async def cut(self) -> None:
        """Let go of what the journal has from before now: no snapshot is to be followed from there.

        A start after a kill then loads everything from the documents.
        """
        if self._membership.fresh:
            await self._cut(self._membership.mark)

    async def _cut(self, until: Mark) -> None:
        try:
            await self._journal.truncate(until)
        except StoreUnavailable as error:
            log.warning("the journal is not cut: %s", error)


async def read_snapshot(directory: Path, *, checkpoint: str, dimension: int) -> Snapshot | None:
    """Return the newest snapshot; None if there is none that can be used."""
    try:
        return await asyncio.to_thread(read, directory, checkpoint=checkpoint, dimension=dimension)
    except SnapshotInvalid as error:
        log.warning("%s; everything is loaded from the documents", error)
        return None
