"""Rows that memory does not hold any more, and that are owed a deletion.

Each is owed as the version that was let go of: what is stored in its place since is another.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from store.entry import Version
from store.errors import StoreUnavailable

DELETED_AT_ONCE = 500
DELETION_PAUSE = 0.05  # seconds in which deletions gather: else every eviction is a commit

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Deletions:
    """Deletes in the background, a part at a time. All methods are called from one event loop."""

    def __init__(
        self,
        discard: Callable[[Sequence[Version]], Awaitable[int]],
        *,
        wanted: Callable[[Version], bool],
    ) -> None:
        """`wanted` says whether a row must not be deleted, as of now."""
        self._discard = discard
        self._wanted = wanted
        self._owed: set[Version] = set()
        self._paying: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._owed)

    def __contains__(self, version: Version) -> bool:
        return version in self._owed

    def __iter__(self) -> Iterator[Version]:
        return iter(self._owed)

    def owe(self, version: Version) -> None:
        """Have the row deleted, unless it is wanted."""
        if not self._wanted(version):
            self._owed.add(version)

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
            part = [version for version in part if not self._wanted(version)]
            if not part:
                continue
            try:
                await self._discard(part)
            except StoreUnavailable as error:
                for version in part:
                    self.owe(version)
                logger.warning("%d deletions are still owed: %s", len(self._owed), error)
                return


def slices(items: list[T], length: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most `length`."""
    for start in range(0, len(items), length):
        yield items[start : start + length]
