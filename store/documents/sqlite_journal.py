"""The journal as a table beside the entries: a record is committed together with what it records.

Rows are small: a put names its entry, whose row holds the rest. What a put of long ago stored may
be replaced or gone by now; then a later record says so.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from functools import partial

from store.documents import rows
from store.documents.base import Stored
from store.documents.reader import Reader
from store.documents.writer import GroupWriter
from store.errors import JournalGap
from store.journal import (
    Apply,
    Approved,
    Change,
    Mark,
    PolicyAdded,
    Put,
    Record,
    Released,
    Removed,
    Stopped,
    TenantForgotten,
)

SCHEMA = (
    """
CREATE TABLE journal (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    data TEXT NOT NULL
)
""",
    "CREATE TABLE journal_state (epoch TEXT NOT NULL, truncated INTEGER NOT NULL)",
    "INSERT INTO journal_state VALUES (lower(hex(randomblob(16))), 0)",
)
logger = logging.getLogger(__name__)
# Returns the outcome, and what to record.
Work = Callable[[sqlite3.Connection], tuple[int, *tuple[Change | None, ...]]]

MOST = 1_000_000  # records; beyond, the oldest half goes, and a snapshot before it is of no use
_END = "SELECT epoch, max(truncated, (SELECT coalesce(max(n), 0) FROM journal)) FROM journal_state"
_PART = "SELECT n, kind, data FROM journal WHERE n > ? ORDER BY n LIMIT ?"
_SIMPLE: dict[str, type[Stopped] | type[Released] | type[TenantForgotten] | type[PolicyAdded]] = {
    "stopped": Stopped,
    "released": Released,
    "tenant_forgotten": TenantForgotten,
    "policy_added": PolicyAdded,
}
_KINDS = {kind: name for name, kind in _SIMPLE.items()}


def append(connection: sqlite3.Connection, change: Change) -> int:
    """Write a record into the transaction under way; return its position."""
    kind, data = _row_of(change)
    statement = "INSERT INTO journal (kind, data) VALUES (?, ?)"
    position = connection.execute(statement, (kind, data)).lastrowid
    assert position is not None
    if position % MOST == 0:
        connection.execute("DELETE FROM journal WHERE n <= ?", (position - MOST // 2,))
        connection.execute("UPDATE journal_state SET truncated = ?", (position - MOST // 2,))
    return position


def _row_of(change: Change) -> tuple[str, str]:
    if isinstance(change, Put):
        return "put", change.stored.held.id
    if isinstance(change, Removed):
        return ("purged" if change.purged else "removed"), json.dumps(change.ids)
    if isinstance(change, Approved):
        return "approved", json.dumps(change.ids)
    if isinstance(change, Stopped | Released):
        return _KINDS[type(change)], json.dumps([change.entry_id, change.tenant])
    if isinstance(change, TenantForgotten):
        return "tenant_forgotten", json.dumps([change.tenant])
    if isinstance(change, PolicyAdded):
        return "policy_added", json.dumps([change.number])
    raise TypeError(f"{change} is of no use to a journal that one process reads")


class JournaledWriter:
    """Writes what has to be recorded, and tells whoever follows, in the order of the commits."""

    def __init__(self, writer: GroupWriter) -> None:
        self._writer = writer
        self._followers: list[Apply] = []

    def follow(self, apply: Apply) -> None:
        """Tell `apply` every record from now on, before the write that made it returns."""
        self._followers.append(apply)

    async def write(self, work: Work, *, size: int = 0) -> int:
        """Do the work and record its changes in one transaction; return its outcome.

        `size` is what it keeps in memory while it waits, in bytes. Raises StoreUnavailable.
        """
        made: list[Record] = []  # by the last try

        def recorded(connection: sqlite3.Connection) -> int:
            outcome, *changes = work(connection)
            made[:] = [Record(append(connection, each), each) for each in changes if each]
            return outcome

        return await self._writer.apply(recorded, size=size, then=lambda: self._tell(made))

    def _tell(self, records: list[Record]) -> None:
        for record in records:
            for apply in self._followers:
                try:
                    apply(record)
                except Exception:  # the others must learn of theirs
                    logger.exception("record %d could not be applied", record.position)


class SqliteJournal:
    """The Journal of an open SqliteDocuments, which closes it."""

    def __init__(self, writer: GroupWriter, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def mark(self) -> Mark:
        row = await self._reader.read(lambda connection: connection.execute(_END).fetchone())
        return Mark(*row)

    async def read(self, after: Mark, batch: int) -> AsyncIterator[list[Record]]:
        end = await self.mark()
        if after.epoch != end.epoch or after.position > end.position:
            raise JournalGap(f"the journal {end.epoch} ends at {end.position}: not after {after}")
        last = after.position
        while last < end.position:
            part, last = await self._reader.read(partial(_read, after=last, limit=batch))
            if part:
                yield part

    async def truncate(self, until: Mark) -> None:
        def cut(connection: sqlite3.Connection) -> int:
            statement = "UPDATE journal_state SET truncated = ? WHERE truncated < ? AND epoch = ?"
            connection.execute(statement, (until.position, until.position, until.epoch))
            return connection.execute(
                "DELETE FROM journal WHERE n <= ? AND EXISTS"
                " (SELECT 1 FROM journal_state WHERE epoch = ?)",
                (until.position, until.epoch),
            ).rowcount

        await self._writer.apply(cut)


def _read(connection: sqlite3.Connection, *, after: int, limit: int) -> tuple[list[Record], int]:
    """Return some records, and the position of the last row read."""
    (truncated,) = connection.execute("SELECT truncated FROM journal_state").fetchone()
    found = connection.execute(_PART, (after, limit)).fetchall()
    if truncated > after or not found:
        raise JournalGap(f"the records after {after} are no longer kept")
    decode = rows.head_decoder()
    records = []
    for position, kind, data in found:
        change = _change_of(connection, kind, data, decode)
        if change is not None:
            records.append(Record(position, change))
    return records, found[-1][0]


def _change_of(
    connection: sqlite3.Connection, kind: str, data: str, decode: rows.HeadDecoder
) -> Change | None:
    """Return what a row says; None for a put of an entry that is gone again."""
    if kind == "put":
        return _put_of(connection, data, decode)
    try:
        values = json.loads(data)
        if kind in ("removed", "purged"):
            return Removed(tuple(values), purged=kind == "purged")
        if kind == "approved":
            return Approved(tuple(values))
        return _SIMPLE[kind](*values)
    except (KeyError, TypeError, ValueError) as error:
        raise JournalGap(f"a record cannot be read: {error}") from error


def _put_of(connection: sqlite3.Connection, id: str, decode: rows.HeadDecoder) -> Put | None:
    row = connection.execute(rows.SELECT_NUMBERED_HEAD, (id,)).fetchone()
    stored: Stored | None = None if row is None else decode(row)
    return None if stored is None else Put(stored)
