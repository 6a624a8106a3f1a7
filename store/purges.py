"""What was purged lately, held against answers that were asked for before and come after.

A purge removes what is stored. An answer that was on its way from an upstream meanwhile is none of
that, but no newer either: it must not be stored behind the purge.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice

from store.entry import Entry
from store.writes import Writes

REMEMBERED = 1_000  # purges; whatever was asked for before so many is not stored

Selects = Callable[[Entry], bool]  # whether a purge takes an entry


def everything(entry: Entry) -> bool:
    """Select every entry."""
    return True


class Purges:
    """The newest purges, in order. All methods are called from one event loop."""

    def __init__(self, writes: Writes, most: int = REMEMBERED) -> None:
        self._writes = writes
        self._purges: deque[Selects] = deque(maxlen=most)
        self.count = 0  # of all that there were: the place in time of what is asked for now

    async def begin(self, selects: Selects) -> None:
        """Remember a purge that begins now.

        Returns once what was just being stored is: then all that it has to take is there.
        """
        self._note(selects)
        await self._writes.over()

    def hear(self, selects: Selects) -> list[asyncio.Future[None]]:
        """Remember a purge that begins in another process.

        What is being written is not made visible here, and its row is deleted. Elsewhere it may
        become visible: the other process has to look for what there is once these are done.
        """
        self._note(selects)
        return self._writes.give_up_all(selects)

    def took(self, entry: Entry, asked: int) -> bool:
        """Whether a purge since the place `asked` takes this entry, or too many to tell."""
        since = self.count - asked
        if since > len(self._purges):
            return True
        return any(selects(entry) for selects in islice(reversed(self._purges), since))

    def _note(self, selects: Selects) -> None:
        self._purges.append(selects)
        self.count += 1
