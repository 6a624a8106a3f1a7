"""Rows that memory does not hold any more, and that are owed a deletion."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from store.entry import EntryId
from store.errors import StoreUnavailable

DELETED_AT_ONCE = 500
DELETION_PAUSE = 0.05  # seconds in which deletions gather: else every eviction is a commit

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Deletions:
    """Deletes in the background, a part at a time. All methods are called from one event loop."""

    def __init__(
        self,
        delete: Callable[[Sequence[EntryId]], Awaitable[int]],
        *,
        wanted: Callable[[EntryId], bool],
    ) -> None:
        """`wanted` says whether a row must not be deleted, as of now."""
        self._delete = delete
        self._wanted = wanted
        self._owed: set[EntryId] = set()
        self._paying: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._owed)

    def __contains__(self, id: EntryId) -> bool:
        return id in self._owed

    def __iter__(self) -> Iterator[EntryId]:
        return iter(self._owed)

    def owe(self, id: EntryId) -> None:
        """Have the row deleted, unless it is wanted."""
        if not self._wanted(id):
            self._owed.add(id)

    def forgive(self, id: EntryId) -> None:
        """Do not delete the row: it is about to be replaced."""
        self._owed.discard(id)

    def pay_soon(self) -> None:
        """Begin to delete, if anything is owed."""
        if self._owed and (self._paying is None or self._paying.done()):
            self._paying = asyncio.create_task(self._pay(), name="nearhit-deletions")

    async def aclose(self) -> None:
        """Finish what is owed, as far as the store lets us."""
        self.pay_soon()
        if self._paying is not None:
            await asyncio.wait([self._paying])

    async def _pay(self) -> None:
        while self._owed:
            if len(self._owed) < DELETED_AT_ONCE:
                await asyncio.sleep(DELETION_PAUSE)
            part = list(itertools.islice(self._owed, DELETED_AT_ONCE))
            self._owed.difference_update(part)
            # Whoever was stored again since it was owed, here or elsewhere, stays.
            part = [id for id in part if not self._wanted(id)]
            if not part:
                continue
            try:
                await self._delete(part)
            except StoreUnavailable as error:
                for id in part:
                    self.owe(id)
                logger.warning("%d deletions are still owed: %s", len(self._owed), error)
                return


def slices(items: list[T], length: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most `length`."""
    for start in range(0, len(items), length):
        yield items[start : start + length]
