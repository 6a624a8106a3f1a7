"""What everybody's requests came to: the ledger's rows and what this process has not added yet.

However many look, the ledger is read once in EVERY seconds and when this process has added to it,
and of what it said before only the end again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from proxy.usage.keeping import UsageKeeper
from store.documents.usage import LENGTH, Span, UsageRow, merged, start_of

EVERY = 2.0  # seconds between two looks at the ledger
_ALL_AGAIN = 60.0  # seconds after which all is read again: a replica may have added late
SHOWN = {Span.MINUTE: timedelta(hours=1), Span.QUARTER: timedelta(hours=24)}


@dataclass(frozen=True, slots=True)
class _Look:
    """What the ledger said."""

    rows: list[UsageRow]
    at: datetime
    read: float  # monotonic seconds
    whole: float  # when all of it was read
    added: int  # batches that this process had added by then


class UsageReader:
    """Reads the last hour by minutes and the last day by quarters of an hour."""

    def __init__(
        self,
        keeper: UsageKeeper,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._keeper = keeper
        self._clock = clock
        self._monotonic = monotonic
        self._looks: dict[Span, _Look] = {}
        self._turn = asyncio.Lock()

    async def recent(self, span: Span) -> list[UsageRow]:
        """Return the rows of the time in SHOWN, up to now. Raises StoreUnavailable."""
        async with self._turn:
            look = self._looks.get(span)
            for _ in range(2):  # what is added during the first is in no place that was looked at
                if look is None or self._is_old(look):
                    look = self._looks[span] = await self._look(span, look)
        assert look is not None
        return merged([*look.rows, *self._keeper.unknown(span)])

    def _is_old(self, look: _Look) -> bool:
        return self._monotonic() - look.read >= EVERY or self._keeper.added != look.added

    async def days(self, first: datetime, last: datetime) -> list[UsageRow]:
        """Return the rows of the days from `first` to `last`, both included, by day and name.

        Raises StoreUnavailable.
        """
        until = last + LENGTH[Span.DAY]
        rows = await self._keeper.ledger.read(Span.DAY, first, until)
        own = [r for r in self._keeper.unknown(Span.DAY) if first <= r.key.start < until]
        return sorted(merged([*rows, *own]), key=lambda row: row.key)

    async def _look(self, span: Span, before: _Look | None) -> _Look:
        now, monotonic, added = self._clock(), self._monotonic(), self._keeper.added
        since, until = start_of(span, now) - SHOWN[span], now + LENGTH[span]
        ledger = self._keeper.ledger
        if before is None or monotonic - before.whole >= _ALL_AGAIN or now < before.at:
            rows = await ledger.read(span, since, until)
            return _Look(rows, now, monotonic, monotonic, added)
        changed = max(since, start_of(span, before.at) - LENGTH[span])
        kept = [row for row in before.rows if since <= row.key.start < changed]
        rows = [*kept, *await ledger.read(span, changed, until)]
        return _Look(rows, now, monotonic, before.whole, added)
