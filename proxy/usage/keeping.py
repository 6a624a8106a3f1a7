"""Taking what was counted to the ledger: every few seconds, and when the process ends.

What could not be added is told again under the name that it had, so that it counts once even if
the store had taken it. It waits in memory meanwhile, within a bound.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from proxy.usage.counting import Usage
from store.documents.usage import (
    Amounts,
    Span,
    UsageKey,
    UsageLedger,
    UsageRow,
    merged,
    summed,
)
from store.errors import StoreUnavailable

log = logging.getLogger("nearhit.usage")

EVERY = 5.0  # seconds
MOST_WAITING = 5_000  # rows; of more, the oldest minutes and quarters go first
_AT_ONCE = 200  # rows in one batch


class UsageKeeper:
    """The way from this process's counts to the ledger."""

    def __init__(
        self,
        usage: Usage,
        ledger: UsageLedger,
        *,
        clock: Callable[[], datetime],
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.usage = usage
        self.ledger = ledger
        self._clock = clock
        self._most = most_waiting
        self._name = secrets.token_hex(8)
        self._number = 0
        self.added = 0  # batches that the ledger has taken
        self._waiting: dict[UsageKey, Amounts] = {}
        self._batch: list[UsageRow] = []  # that is being told, or was and failed
        self._failing = False
        self._turn = asyncio.Lock()

    async def keep(self) -> None:
        """Take what is counted to the ledger for ever, as the clock shows whole steps of EVERY.

        So a minute's last count ends with the minute, and no request has to know the time.
        """
        while True:
            await asyncio.sleep(EVERY - self._clock().timestamp() % EVERY)
            with suppress(StoreUnavailable):
                await self.flush(self._clock() - timedelta(seconds=EVERY / 2))

    async def aclose(self) -> None:
        """Take to the ledger what is left, if it lets us."""
        with suppress(StoreUnavailable):
            await self.flush()

    async def flush(self, at: datetime | None = None) -> None:
        """Add what was counted to the spans in which `at` lies, now if None.

        Raises StoreUnavailable; what could not be added is kept.
        """
        self._take(self._clock() if at is None else at)
        async with self._turn:
            try:
                while self._batch or self._waiting:
                    if not self._batch:
                        self._next_batch()
                    await self.ledger.add(self._batch, batch=f"{self._name}-{self._number}")
                    self._batch = []
                    self.added += 1
            except StoreUnavailable as error:
                if not self._failing:
                    log.warning("usage cannot be added to the ledger now and waits: %s", error)
                self._failing = True
                raise
            self._failing = False

    async def forget(self, tenant: str) -> int:
        """Let no row name a tenant any more; return how many days did. Raises StoreUnavailable."""
        await self.flush()
        return await self.ledger.fold(tenant, self._clock())

    def unknown(self, span: Span) -> list[UsageRow]:
        """Return the rows that the ledger does not have yet, or may not have."""
        waiting = [UsageRow(key, amounts) for key, amounts in self._waiting.items()]
        counted = self.usage.rows(self._clock())
        return merged(r for r in (*waiting, *self._batch, *counted) if r.key.span is span)

    def _take(self, at: datetime) -> None:
        for key, amounts in self.usage.take(at):
            before = self._waiting.get(key)
            self._waiting[key] = amounts if before is None else summed(before, amounts)
        over = len(self._waiting) - self._most
        if over > 0:
            log.warning("the ledger has not taken usage for long: %d rows are given up", over)
            oldest = sorted(self._waiting, key=lambda key: (key.span is Span.DAY, key.start))
            for key in oldest[:over]:
                del self._waiting[key]

    def _next_batch(self) -> None:
        keys = list(self._waiting)[:_AT_ONCE]
        self._batch = [UsageRow(key, self._waiting.pop(key)) for key in keys]
        self._number += 1
