"""The usage ledger as data: by day, tenant, category and model, as JSON or for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import Query, Response

from proxy.errors import ApiError
from proxy.outcome import Served
from proxy.usage.reading import UsageReader
from store.documents.heads import EPOCH
from store.documents.usage import KEPT, LENGTH, Span, UsageRow, start_of

_DAYS = 30  # shown where nobody says from when
AMOUNTS = (
    "prompt_tokens", "completion_tokens", "saved_prompt_tokens", "saved_completion_tokens",
    "spent", "saved", "saved_seconds", "unmetered", "unpriced",
)  # fmt: skip
_MONEY = ("spent", "saved", "saved_seconds")
COLUMNS = (
    "day", "tenant", "category", "model", "requests",
    *(each.value for each in Served), *AMOUNTS, "currency",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes a cell for that begins so


class UsageAdmin:
    """What an operator may know of what requests used."""

    def __init__(self, reader: UsageReader, currency: str, clock: Callable[[], datetime]) -> None:
        self._reader = reader
        self._currency = currency
        self._clock = clock

    async def usage(
        self,
        first: Annotated[str, Query(alias="from")] = "",
        to: str = "",
        format: Literal["json", "csv"] = "json",
    ) -> Any:
        """Return a line a day, tenant, category and model, the oldest day first.

        From and to are days in UTC, both included: by default the last 30.
        """
        today = start_of(Span.DAY, self._clock())
        # Another replica's clock may be ahead, but not by more.
        last = min(_day(to, "to"), today + LENGTH[Span.DAY]) if to else today
        begin = _day(first, "from") if first else last - timedelta(days=_DAYS - 1)
        if begin > last:
            raise ApiError(400, f"from: {first!r} is not allowed; it is after to", param="from")
        begin = max(begin, last - KEPT[Span.DAY])
        lines = lines_of(await self._reader.days(begin, last), self._currency)
        if format == "json":
            return {"usage": lines, "next": None}
        name = f"usage-{begin.date()}-{last.date()}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(as_csv(lines), media_type="text/csv; charset=utf-8", headers=headers)


def lines_of(rows: Iterable[UsageRow], currency: str) -> list[dict[str, Any]]:
    """Return rows of days as lines with the keys of COLUMNS, the requests by who answered."""
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for key, amounts in rows:
        day = key.start.date().isoformat()
        names = (day, key.tenant, key.category, key.model)
        line = lines.get(names)
        if line is None:
            line = lines[names] = dict(zip(COLUMNS, names, strict=False))
            line |= dict.fromkeys(COLUMNS[4:], 0) | {"currency": currency}
        requests = int(amounts.get("requests", 0))
        line["requests"] += requests
        if key.outcome in line:
            line[key.outcome] += requests
        for metric in AMOUNTS:
            amount = amounts.get(metric, 0)
            line[metric] += amount if metric in _MONEY else int(amount)
    for line in lines.values():
        line |= {metric: round(line[metric], 9) for metric in _MONEY}
    return list(lines.values())


def as_csv(lines: Iterable[dict[str, Any]]) -> str:
    """Return lines with the keys of COLUMNS under a line of these; no cell is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for line in lines:
        writer.writerow([_cell(line[column]) for column in COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _day(text: str, name: str) -> datetime:
    try:
        if len(text) != len("2026-01-31"):
            raise ValueError
        # Nothing is from before the epoch, and days before the first one cannot be reckoned with.
        return max(EPOCH, datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC))
    except ValueError:
        raise ApiError(
            400, f"{name}: {text!r} is not allowed; a day such as 2026-01-31", param=name
        ) from None
