"""The usage ledger in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from store.documents.usage import (
    KEPT,
    OTHER,
    Amounts,
    Span,
    UsageKey,
    UsageRow,
    summed,
)
from store.errors import StoreUnavailable


class MemoryUsage:
    """Keeps sums by key. Set `failing` to refuse calls, `deaf` to do them and then fail."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.failing = False
        self.deaf = False
        self.reads = 0
        self.rows: dict[UsageKey, Amounts] = {}
        self._batches: set[str] = set()
        self._check_open = check

    async def add(self, rows: Sequence[UsageRow], *, batch: str) -> None:
        self._check()
        if rows and batch not in self._batches:
            self._batches.add(batch)
            for key, amounts in rows:
                self.rows[key] = summed(self.rows.get(key, {}), amounts)
            newest = max(row.key.start for row in rows)
            for key in [key for key in self.rows if key.start < newest - KEPT[key.span]]:
                del self.rows[key]
        if self.deaf:
            raise StoreUnavailable("nobody knows whether it was added")

    async def read(self, span: Span, since: datetime, until: datetime) -> list[UsageRow]:
        self.reads += 1
        self._check()
        return [
            UsageRow(key, amounts)
            for key, amounts in self.rows.items()
            if key.span is span and since <= key.start < until
        ]

    async def fold(self, tenant: str, now: datetime) -> int:
        self._check()
        named = [k for k in self.rows if k.tenant == tenant != OTHER and k.span is Span.DAY]
        for key in named:
            other = key._replace(tenant=OTHER)
            self.rows[other] = summed(self.rows.get(other, {}), self.rows.pop(key))
        return len({key.start for key in named})

    def _check(self) -> None:
        self._check_open()
        if self.failing:
            raise StoreUnavailable("the ledger in memory is out of order")
