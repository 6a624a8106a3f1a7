"""Records in the SQLite file of the entries, by the same threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from store.documents import record_tables as tables
from store.documents import rows
from store.documents.base import NEWEST, position
from store.documents.heads import microseconds
from store.documents.reader import Reader
from store.documents.record_tables import Table
from store.documents.records import (
    AuditRow,
    Bounds,
    Forgotten,
    Listing,
    Pair,
    PolicyVersion,
    check_state,
)
from store.documents.rows import Row
from store.documents.sqlite_journal import JournaledWriter
from store.documents.writer import GroupWriter
from store.entry import EntryId
from store.errors import StoreUnavailable, VersionTaken
from store.journal import Change, PolicyAdded, Released, Stopped, TenantForgotten

T = TypeVar("T")


class SqliteRecords:
    """The Records of an open SqliteDocuments, which closes them."""

    def __init__(
        self, writer: GroupWriter, journaled: JournaledWriter, reader: Reader, bounds: Bounds
    ) -> None:
        self._writer = writer
        self._journaled = journaled
        self._reader = reader
        self._bounds = bounds

    async def add_version(
        self,
        version: PolicyVersion,
        audit: AuditRow,
        *,
        after: int | None = None,
        state: tuple[str, str] | None = None,
    ) -> int:
        def write(connection: sqlite3.Connection) -> tuple[int, Change | None]:
            if after is not None and tables.VERSIONS.newest(connection) != after:
                return 0, None
            row = tables.version_row(version)
            number = tables.VERSIONS.add(connection, row, self._bounds.versions)
            tables.AUDIT.add(connection, tables.audit_row(audit), self._bounds.audit)
            if state is not None:
                connection.execute(tables.SAVE_STATE, tables.sealed(*state))
            return number, PolicyAdded(number)

        number = await self._journaled.write(write, size=len(version.document) + size_of(audit))
        if not number:
            raise VersionTaken(f"policy version {after} is not the newest")
        return number

    async def latest_version(self) -> PolicyVersion | None:
        return await self._one_version("n <= ?", NEWEST)

    async def version(self, number: int) -> PolicyVersion | None:
        if not 0 < number <= NEWEST:  # SQLite knows no others
            return None
        return await self._one_version("n = ?", number)

    async def versions(self, *, limit: int, cursor: str | None = None) -> Listing[PolicyVersion]:
        return await self._list(tables.VERSIONS, tables.version_of, limit, cursor)

    async def add_audit(self, row: AuditRow) -> None:
        await self._add(
            tables.AUDIT, lambda: tables.audit_row(row), self._bounds.audit, size_of(row)
        )

    async def audit(self, *, limit: int, cursor: str | None = None) -> Listing[AuditRow]:
        return await self._list(tables.AUDIT, tables.audit_of, limit, cursor)

    async def add_pair(self, pair: Pair) -> None:
        size = len(pair.query) + len(pair.entry_query) + len(pair.comment)
        await self._add(tables.PAIRS, lambda: tables.pair_row(pair), self._bounds.pairs, size)

    async def pairs(
        self, *, limit: int, cursor: str | None = None, category: str | None = None
    ) -> Listing[Pair]:
        return await self._list(tables.PAIRS, tables.pair_of, limit, cursor, category)

    async def quarantine(self, entry_id: EntryId, tenant: str, at: datetime, why: str) -> None:
        row = (entry_id, tenant, microseconds(at), why)

        def write(connection: sqlite3.Connection) -> tuple[int, *tuple[Change, ...]]:
            left = tables.stop(connection, row, self._bounds.quarantine)
            changes: list[Change] = [Stopped(entry_id, tenant)]
            changes += [Released(*each) for each in left]
            return 1, *changes

        await self._journaled.write(write, size=len(why))

    async def release(self, entry_id: EntryId, tenant: str) -> bool:
        statement = "DELETE FROM quarantine WHERE entry_id = ? AND tenant = ?"

        def write(connection: sqlite3.Connection) -> tuple[int, Change | None]:
            gone = connection.execute(statement, (entry_id, tenant)).rowcount
            return gone, Released(entry_id, tenant) if gone else None

        return await self._journaled.write(write) > 0

    async def quarantined(self) -> list[tuple[EntryId, str]]:
        statement = "SELECT entry_id, tenant FROM quarantine ORDER BY n"
        return await self._reader.read(lambda connection: connection.execute(statement).fetchall())

    async def forget_tenant(self, tenant: str) -> Forgotten:
        gone: list[int] = []

        def forget(connection: sqlite3.Connection) -> tuple[int, Change]:
            gone[:] = [
                connection.execute(f"DELETE FROM {table} WHERE tenant = ?", (tenant,)).rowcount
                for table in (tables.PAIRS.name, tables.QUARANTINE.name)
            ]
            return sum(gone), TenantForgotten(tenant)

        await self._journaled.write(forget)
        return Forgotten(*gone)

    async def find_answer(self, tenant: str, answer_id: str) -> EntryId | None:
        found = await self._reader.read(
            lambda connection: connection.execute(rows.FIND_ANSWER, (answer_id, tenant)).fetchone()
        )
        return None if found is None else EntryId(found[0])

    async def save_budget(self, category: str, state: str) -> None:
        if state:
            row = tables.sealed(category, state)
            await self._writer.submit(tables.SAVE_BUDGET, lambda: [row], size=len(state))
        else:
            await self._writer.submit(tables.DROP_BUDGET, lambda: [(category,)])

    async def budgets(self) -> dict[str, str]:
        found = await self._reader.read(
            lambda connection: connection.execute(tables.SELECT_BUDGETS).fetchall()
        )
        return {row[1]: row[2] for row in found if tables.intact(row)}

    async def save_state(self, name: str, state: str) -> None:
        check_state(state)
        if state:
            row = tables.sealed(name, state)
            await self._writer.submit(tables.SAVE_STATE, lambda: [row], size=len(state))
        else:
            await self._writer.submit(tables.DROP_STATE, lambda: [(name,)])

    async def states(self) -> dict[str, str]:
        found = await self._reader.read(
            lambda connection: connection.execute(tables.SELECT_STATES).fetchall()
        )
        return {row[1]: row[2] for row in found if tables.intact(row)}

    async def _add(self, table: Table, row: Callable[[], Row], keep: int, size: int) -> None:
        await self._writer.apply(lambda connection: table.add(connection, row(), keep), size=size)

    async def _one_version(self, condition: str, number: int) -> PolicyVersion | None:
        statement = tables.VERSIONS.select(condition)
        row = await self._reader.read(
            lambda connection: connection.execute(statement, (number, 1)).fetchone()
        )
        if row is None:
            return None
        version = tables.version_of(row)
        if version is None:
            raise StoreUnavailable(f"policy version {row[0]} is damaged")
        return version

    async def _list(
        self,
        table: Table,
        decode: Callable[[Row], T | None],
        limit: int,
        cursor: str | None,
        category: str | None = None,
    ) -> Listing[T]:
        condition, values = "n < ?", list[int | str]([position(cursor)])
        if category is not None:
            condition += " AND category = ?"
            values.append(category)
        statement = table.select(condition)
        found = await self._reader.read(
            lambda connection: connection.execute(statement, (*values, limit + 1)).fetchall()
        )
        more = str(found[limit - 1][0]) if len(found) > limit else None
        items = [item for row in found[:limit] if (item := decode(row)) is not None]
        return Listing(tuple(items), more)


def size_of(row: AuditRow) -> int:
    """Return about how many bytes the row keeps in memory while it waits."""
    return len(row.before or "") + len(row.after or "")
