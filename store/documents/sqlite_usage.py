"""The usage ledger in the SQLite file of the entries, by the same threads."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

from store.documents.heads import instant, microseconds
from store.documents.reader import Reader
from store.documents.record_tables import sealed
from store.documents.rows import Row
from store.documents.usage import (
    KEPT,
    OTHER,
    Amounts,
    Span,
    UsageKey,
    UsageRow,
    summed,
)
from store.documents.writer import GroupWriter

SCHEMA = (
    """
CREATE TABLE usage (
    span TEXT NOT NULL,
    start_us INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    category TEXT NOT NULL,
    model TEXT NOT NULL,
    outcome TEXT NOT NULL,
    amounts TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (span, start_us, tenant, category, model, outcome)
) WITHOUT ROWID
""",
    """
CREATE TABLE usage_batches (
    batch TEXT PRIMARY KEY,
    at_us INTEGER NOT NULL
) WITHOUT ROWID
""",
)
# What lets a file of a version without them be read.
OVER_VERSION_5 = tuple(
    statement.replace("CREATE TABLE", "CREATE TEMP TABLE") for statement in SCHEMA
)
_COLUMNS = "span, start_us, tenant, category, model, outcome, amounts, checksum"
_ONE = "span = ? AND start_us = ? AND tenant = ? AND category = ? AND model = ? AND outcome = ?"
_SELECT = f"SELECT {_COLUMNS} FROM usage WHERE"
_SAVE = f"INSERT OR REPLACE INTO usage ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_KNOWN_FOR = timedelta(days=1)  # that a batch is remembered


class SqliteUsage:
    """The UsageLedger of an open SqliteDocuments, which closes it."""

    def __init__(self, writer: GroupWriter, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def add(self, rows: Sequence[UsageRow], *, batch: str) -> None:
        if not rows:
            return
        newest = max(row.key.start for row in rows)

        def write(connection: sqlite3.Connection) -> int:
            noted = (batch, microseconds(newest))
            if not connection.execute(
                "INSERT OR IGNORE INTO usage_batches (batch, at_us) VALUES (?, ?)", noted
            ).rowcount:
                return 0
            for row in rows:
                _add(connection, row)
            _forget(connection, newest)
            return len(rows)

        await self._writer.apply(write, size=200 * len(rows))

    async def read(self, span: Span, since: datetime, until: datetime) -> list[UsageRow]:
        bounds = (span, microseconds(since), microseconds(until))

        def read(connection: sqlite3.Connection) -> list[UsageRow]:
            found = connection.execute(
                f"{_SELECT} span = ? AND start_us >= ? AND start_us < ?", bounds
            )
            return [row for each in found if (row := _row_of(each)) is not None]

        return await self._reader.read(read)

    async def fold(self, tenant: str, now: datetime) -> int:
        if tenant == OTHER:
            return 0

        def write(connection: sqlite3.Connection) -> int:
            condition = "span = 'day' AND tenant = ?"
            found = connection.execute(f"{_SELECT} {condition}", (tenant,)).fetchall()
            connection.execute(f"DELETE FROM usage WHERE {condition}", (tenant,))
            for row in map(_row_of, found):
                if row is not None:
                    _add(connection, row._replace(key=row.key._replace(tenant=OTHER)))
            return len({each[1] for each in found})

        return await self._writer.apply(write)


def _add(connection: sqlite3.Connection, row: UsageRow) -> None:
    key = _columns(row.key)
    found = connection.execute(f"{_SELECT} {_ONE}", key).fetchone()
    before = None if found is None else _row_of(found)
    amounts: Amounts = row.amounts if before is None else summed(before.amounts, row.amounts)
    connection.execute(_SAVE, sealed(*key, json.dumps(dict(amounts))))


def _forget(connection: sqlite3.Connection, newest: datetime) -> None:
    for span, kept in KEPT.items():
        oldest = microseconds(newest - kept)
        connection.execute("DELETE FROM usage WHERE span = ? AND start_us < ?", (span, oldest))
    oldest = microseconds(newest - _KNOWN_FOR)
    connection.execute("DELETE FROM usage_batches WHERE at_us < ?", (oldest,))


def _columns(key: UsageKey) -> Row:
    return (key.span.value, microseconds(key.start), *key[2:])


def _row_of(found: Row) -> UsageRow | None:
    if tuple(found) != sealed(*found[:-1]):
        return None
    span, start_us, tenant, category, model, outcome, amounts, _ = found
    key = UsageKey(Span(span), instant(start_us), tenant, category, model, outcome)
    return UsageRow(key, json.loads(amounts))
