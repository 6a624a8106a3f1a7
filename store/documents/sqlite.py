"""Entries and records in one SQLite file: the embedded default.

Write-ahead log with synchronous=NORMAL: a committed entry survives the end of the process,
`kill -9` included; a power cut may cost the last commits, never the file.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from store.documents import rows
from store.documents.base import Filter, Page, Stored, position, without_body
from store.documents.heads import microseconds
from store.documents.listing import SUMMARY, summary, where
from store.documents.lock import DirectoryLock, take_directory
from store.documents.reader import Reader
from store.documents.records import Bounds
from store.documents.schema import connect_to, prepare
from store.documents.sqlite_journal import JournaledWriter, SqliteJournal
from store.documents.sqlite_records import SqliteRecords
from store.documents.sqlite_usage import SqliteUsage
from store.documents.writer import GroupWriter
from store.entry import Entry, EntryId, Version, size_of
from store.errors import StoreUnavailable
from store.journal import Apply, Approved, Change, Put, Removed

FILE = "nearhit.sqlite"
BUSY_SECONDS = 2.0  # how long a call waits for another process's lock
MAX_WAITING = 4096  # writes
MAX_WAITING_BYTES = 64 * 2**20
DEFAULT_BOUNDS = Bounds()


class SqliteDocuments:
    """A DocumentStore in `nearhit.sqlite`; `records`, `journal` and `usage` beside the entries.

    Nothing but the opening blocks the event loop.
    """

    def __init__(
        self,
        path: Path,
        lock: DirectoryLock | None,
        *,
        busy_seconds: float,
        max_waiting: int,
        max_waiting_bytes: int,
        bounds: Bounds,
    ) -> None:
        self._lock = lock
        connect = partial(connect_to, path, busy_seconds, read_only=lock is None)
        self._writer = GroupWriter(connect, max_writes=max_waiting, max_bytes=max_waiting_bytes)
        self._reader = Reader(connect, "nearhit-read")
        self._scanner = Reader(connect, "nearhit-scan")  # long reads do not hold up `get`
        self._journaled = JournaledWriter(self._writer)
        self.journal = SqliteJournal(self._writer, self._scanner)
        self.records = SqliteRecords(self._writer, self._journaled, self._scanner, bounds)
        self.usage = SqliteUsage(self._writer, self._scanner)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        read_only: bool = False,
        busy_seconds: float = BUSY_SECONDS,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        bounds: Bounds = DEFAULT_BOUNDS,
    ) -> Self:
        """Open the file in the directory; both are created unless read_only.

        A file of an earlier version is migrated; read-only reads it as it is.
        Read-only works beside a running server, and its writes raise StoreUnavailable.
        Raises StoreUnavailable for a directory that another process writes to, a file that
        cannot be used, or one that a later version of Nearhit wrote.
        """
        path = directory / FILE
        if read_only and not path.is_file():
            raise StoreUnavailable(f"{path} does not exist")
        lock = None if read_only else take_directory(directory)
        try:
            prepare(path, busy_seconds, read_only=read_only)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return cls(
            path,
            lock,
            busy_seconds=busy_seconds,
            max_waiting=max_waiting,
            max_waiting_bytes=max_waiting_bytes,
            bounds=bounds,
        )

    @property
    def waiting(self) -> int:
        return self._writer.waiting

    def follow(self, apply: Apply) -> None:
        self._journaled.follow(apply)

    async def put(self, entry: Entry) -> None:
        def write(connection: sqlite3.Connection) -> tuple[int, Change]:
            connection.execute(rows.INSERT, rows.encode(entry))
            return 1, Put(without_body(entry))

        await self._journaled.write(write, size=size_of(entry))

    async def get(self, id: EntryId) -> Entry | None:
        row = await self._reader.read(
            lambda connection: connection.execute(rows.SELECT_ONE, (id,)).fetchone()
        )
        return None if row is None else rows.decode(row)

    async def purge(self, ids: Sequence[EntryId]) -> int:
        def write(connection: sqlite3.Connection) -> tuple[int, Change | None]:
            gone = [id for id in ids if connection.execute(rows.DELETE, (id,)).rowcount]
            return len(gone), Removed(tuple(gone), purged=True) if gone else None

        return await self._journaled.write(write)

    async def discard(self, versions: Sequence[Version]) -> int:
        def write(connection: sqlite3.Connection) -> tuple[int, Change | None]:
            gone = [
                id
                for id, at in versions
                if connection.execute(rows.DELETE_VERSION, (id, microseconds(at))).rowcount
            ]
            return len(gone), Removed(tuple(gone), purged=False) if gone else None

        return await self._journaled.write(write)

    async def approve(self, ids: Sequence[EntryId]) -> int:
        def write(connection: sqlite3.Connection) -> tuple[int, Change | None]:
            marked = rows.approve(connection, ids)
            return len(marked), Approved(tuple(marked)) if marked else None

        return await self._journaled.write(write)

    async def load_all(self, batch: int) -> AsyncIterator[list[Stored]]:
        decode = rows.head_decoder()

        def load(connection: sqlite3.Connection) -> tuple[int, list[Stored]]:
            found = connection.execute(rows.SELECT_HEADS, (last, batch)).fetchall()
            decoded = [stored for row in found if (stored := decode(row)) is not None]
            return (found[-1][0] if found else 0), decoded

        last = -(2**63)
        while True:
            newest, part = await self._scanner.read(load)
            if not newest:
                return
            last = newest
            if part:
                yield part

    async def browse(self, filter: Filter, *, limit: int, cursor: str | None = None) -> Page:
        before = position(cursor)
        clauses, values = where(filter)
        statement = f"SELECT {SUMMARY} FROM entries WHERE n < ?{clauses} ORDER BY n DESC LIMIT ?"
        found = await self._scanner.read(
            lambda connection: connection.execute(
                statement, (before, *values, limit + 1)
            ).fetchall()
        )
        more = str(found[limit - 1][0]) if len(found) > limit else None
        lines = [line for row in found[:limit] if (line := summary(row)) is not None]
        return Page(tuple(lines), more)

    async def count(self) -> int:
        found = await self._scanner.read(
            lambda connection: connection.execute("SELECT count(*) FROM entries").fetchone()
        )
        return int(found[0])

    async def ping(self) -> None:
        await self._reader.read(
            lambda connection: connection.execute("SELECT 1 FROM entries LIMIT 1").fetchone()
        )
        await self.purge([EntryId("")])  # takes the write lock and changes nothing

    async def aclose(self) -> None:
        await asyncio.to_thread(self._writer.close)
        await self._reader.aclose()
        await self._scanner.aclose()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
