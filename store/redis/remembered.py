"""What a replica must not forget even if Redis does: what was purged, and what was quarantined.

Redis may come back without its last writes, or empty. A purge that was acknowledged has to hold
all the same, so each replica keeps it on its own disk, and holds it against whatever it loads. The
place in the journal beside it tells after a restart whether Redis has forgotten anything meanwhile.
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Self

from store.documents.heads import instant, microseconds
from store.documents.reader import Reader
from store.documents.writer import GroupWriter
from store.entry import EntryId, Held
from store.errors import StoreUnavailable
from store.journal import Change, Mark, Record, Released, Removed, Stopped, TenantForgotten
from store.redis.codec import told_at

FILE = "replica.sqlite"
VERSION = 1  # of SCHEMA, kept in PRAGMA user_version
MOST = 200_000  # purged ids; the oldest leave first
BUSY_SECONDS = 2.0
SCHEMA = (
    "CREATE TABLE replica (id TEXT NOT NULL)",
    "CREATE TABLE purged (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, until_us INTEGER)",
    "CREATE TABLE stopped (entry_id TEXT, tenant TEXT, PRIMARY KEY (entry_id, tenant))",
    f"PRAGMA user_version = {VERSION}",
)
# Not in version 1 at first; a Nearhit of then leaves it alone.
PLACE = "CREATE TABLE IF NOT EXISTS place (epoch TEXT NOT NULL, position INTEGER NOT NULL)"
Stop = tuple[EntryId, str]  # who must not be served it; "" is everybody


class Remembered:
    """The file on this replica's own disk."""

    def __init__(self, path: Path, replica: str) -> None:
        self.replica = replica  # names this replica for as long as the file lives
        self._connect = lambda: connect(path)
        self._writer = GroupWriter(self._connect, max_writes=10_000, max_bytes=64 * 2**20)
        self._reader = Reader(self._connect, "nearhit-remembered")

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the file in the directory, creating both; raise StoreUnavailable. Blocks."""
        path = directory / FILE
        try:
            directory.mkdir(parents=True, exist_ok=True)
            connection = connect(path)
            try:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("BEGIN IMMEDIATE")
                    for statement in SCHEMA:
                        connection.execute(statement)
                    name = uuid.uuid4().hex[:16]
                    connection.execute("INSERT INTO replica VALUES (?)", (name,))
                    connection.execute("COMMIT")
                elif version != VERSION:
                    raise StoreUnavailable(
                        f"{path} has schema version {version}; this Nearhit reads {VERSION}"
                    )
                connection.execute(PLACE)
                (replica,) = connection.execute("SELECT id FROM replica").fetchone()
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"{path} cannot be used: {error}") from error
        return cls(path, replica)

    async def note(self, records: Iterable[Record], epoch: str) -> None:
        """Write down what must outlive Redis of some records of an epoch; durable on return.

        What was purged is held against every version stored until its record was made, which may
        be long ago: a replica that comes back reads what it has missed. Raises StoreUnavailable.
        """
        lasting = [record for record in records if must_last(record.change)]
        if lasting:
            here = Mark(epoch, lasting[-1].position)
            await self._writer.apply(lambda connection: write(connection, lasting, here))

    async def place(self) -> Mark | None:
        """Return a record that this replica has applied; None if it has noted none yet.

        Raises StoreUnavailable.
        """
        row = await self._reader.read(
            lambda connection: connection.execute("SELECT epoch, position FROM place").fetchone()
        )
        return None if row is None else Mark(*row)

    async def reach(self, place: Mark) -> None:
        """Note a place that this replica has reached. Raises StoreUnavailable."""
        await self._writer.apply(lambda connection: put_place(connection, place))

    async def keep_stopped(self, stops: Iterable[Stop]) -> None:
        """Have exactly these be what is quarantined. Raises StoreUnavailable."""
        wanted = set(stops)
        await self._writer.apply(lambda connection: replace_stopped(connection, wanted))

    async def purged(self) -> dict[EntryId, datetime]:
        """Return what was purged, and when; raise StoreUnavailable."""
        found = await self._reader.read(
            lambda connection: connection.execute("SELECT id, until_us FROM purged").fetchall()
        )
        return {EntryId(id): instant(until) for id, until in found}

    async def stopped(self) -> list[Stop]:
        """Return what was quarantined and not released; raise StoreUnavailable."""
        return await self._reader.read(
            lambda connection: connection.execute(
                "SELECT entry_id, tenant FROM stopped ORDER BY rowid"
            ).fetchall()
        )

    async def aclose(self) -> None:
        """Finish the writes that were accepted and close."""
        await asyncio.to_thread(self._writer.close)
        await self._reader.aclose()


def must_last(change: Change) -> bool:
    """Whether a change must hold even if Redis forgets it."""
    if isinstance(change, Removed):
        return change.purged
    return isinstance(change, Stopped | Released | TenantForgotten)


def barrier(purged: dict[EntryId, datetime]) -> Callable[[Held], bool]:
    """Return what tells of an entry whether it was purged, or is an older version of one."""

    def barred(held: Held) -> bool:
        until = purged.get(held.id)
        return until is not None and held.created_at <= until

    return barred


def write(connection: sqlite3.Connection, records: list[Record], place: Mark) -> int:
    """Bring the tables up to date, within a transaction."""
    put_place(connection, place)
    for position, change, _ in records:
        if isinstance(change, Removed):
            made_us = microseconds(told_at(position))
            # Whoever stored it may have a clock that is ahead of Redis's.
            stored = dict(zip(change.ids, map(microseconds, change.stored), strict=False))
            connection.executemany(
                "INSERT OR REPLACE INTO purged (id, until_us) VALUES (?, ?)",
                [(id, max(made_us, stored.get(id, 0))) for id in change.ids],
            )
        elif isinstance(change, Stopped):
            row = (change.entry_id, change.tenant)
            connection.execute("INSERT OR IGNORE INTO stopped VALUES (?, ?)", row)
        elif isinstance(change, Released):
            connection.execute(
                "DELETE FROM stopped WHERE entry_id = ? AND tenant = ?",
                (change.entry_id, change.tenant),
            )
        elif isinstance(change, TenantForgotten):
            connection.execute("DELETE FROM stopped WHERE tenant = ?", (change.tenant,))
    (newest,) = connection.execute("SELECT coalesce(max(n), 0) FROM purged").fetchone()
    connection.execute("DELETE FROM purged WHERE n <= ?", (newest - MOST,))
    return len(records)


def put_place(connection: sqlite3.Connection, place: Mark) -> int:
    """Put a place in place of the one before, within a transaction."""
    connection.execute("DELETE FROM place")
    return connection.execute("INSERT INTO place VALUES (?, ?)", place).rowcount


def replace_stopped(connection: sqlite3.Connection, wanted: set[Stop]) -> int:
    """Make the table say exactly this, within a transaction."""
    there = set(connection.execute("SELECT entry_id, tenant FROM stopped").fetchall())
    connection.executemany(
        "DELETE FROM stopped WHERE entry_id = ? AND tenant = ?", list(there - wanted)
    )
    connection.executemany("INSERT INTO stopped VALUES (?, ?)", list(wanted - there))
    return len(there ^ wanted)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file; a commit survives the end of the process."""
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection
