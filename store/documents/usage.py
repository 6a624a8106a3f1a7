"""The usage ledger: what requests used, cost and saved, summed by minute, quarter hour and day.

All replicas add to the same rows. Rows of minutes and quarters name neither tenant nor model, so
that there are few of them; those of days do. What is too old leaves as others are added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from store.documents.heads import EPOCH

OTHER = "other"  # the tenant of rows whose tenant is not named (any more)
_SPARE = 7  # starts beyond KEPT that may still be there
Amounts = Mapping[str, float]  # by metric; counts, tokens, seconds or money


class Span(StrEnum):
    """How long what a row sums up lasted; it begins where the clock says so, in UTC."""

    MINUTE = "minute"
    QUARTER = "quarter"  # of an hour
    DAY = "day"


LENGTH = {
    Span.MINUTE: timedelta(minutes=1),
    Span.QUARTER: timedelta(minutes=15),
    Span.DAY: timedelta(days=1),
}
KEPT = {
    Span.MINUTE: timedelta(hours=2),
    Span.QUARTER: timedelta(hours=26),
    Span.DAY: timedelta(days=400),
}


class UsageKey(NamedTuple):
    """What a row is about; whoever makes keys keeps their number bounded."""

    span: Span
    start: datetime  # aware, UTC
    tenant: str  # "" but in rows of days
    category: str
    model: str  # a label, "" but in rows of days
    outcome: str


class UsageRow(NamedTuple):
    """What is summed up, or is to be added."""

    key: UsageKey
    amounts: Amounts


class UsageLedger(Protocol):
    """Implemented by SQLite here, by Redis, and by a fake in memory for tests.

    Every method raises StoreUnavailable when the store cannot do it now; none waits for ever.
    """

    async def add(self, rows: Sequence[UsageRow], *, batch: str) -> None:
        """Add to what is there, all or nothing; durable on return.

        Told again under the same name, a batch is not added again for a day: whoever does not
        know whether it was may tell it once more. Rows that are older than KEPT, as seen from the
        newest one of a batch, leave.
        """
        ...

    async def read(self, span: Span, since: datetime, until: datetime) -> list[UsageRow]:
        """Return the rows that begin from `since` to before `until`, in no order.

        Damaged ones are left out.
        """
        ...

    async def fold(self, tenant: str, now: datetime) -> int:
        """Count a tenant's rows as those of OTHER; return how many days had its name."""
        ...


def start_of(span: Span, at: datetime) -> datetime:
    """Return when the span began in which a moment lies."""
    length = LENGTH[span]
    return EPOCH + (at - EPOCH) // length * length


def starts(span: Span, since: datetime, until: datetime) -> list[datetime]:
    """Return every start from `since` to before `until`, at most a few more than are kept."""
    length = LENGTH[span]
    first = start_of(span, since)
    if first < since:
        first += length
    first = max(first, start_of(span, until) - KEPT[span] - _SPARE * length)
    return [first + length * n for n in range(max(0, -((first - until) // length)))]


def summed(left: Amounts, right: Amounts) -> dict[str, float]:
    """Return two rows' amounts in one."""
    total = dict(left)
    for metric, amount in right.items():
        total[metric] = total.get(metric, 0) + amount
    return total


def merged(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """Return the rows with each key once."""
    total: dict[UsageKey, Amounts] = {}
    for key, amounts in rows:
        total[key] = summed(total[key], amounts) if key in total else amounts
    return [UsageRow(key, amounts) for key, amounts in total.items()]
