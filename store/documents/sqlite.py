"""Entries in one SQLite file: the embedded default.

Write-ahead log with synchronous=NORMAL: a committed entry survives the end of the process,
`kill -9` included; a power cut may cost the last commits, never the file.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from store.documents import rows
from store.documents.base import Filter, Page, Stored
from store.documents.lock import DirectoryLock
from store.documents.writer import GroupWriter
from store.entry import Entry, EntryId, size_of
from store.errors import StoreUnavailable

FILE = "nearhit.sqlite"
VERSION = 1  # of SCHEMA, kept in PRAGMA user_version
BUSY_SECONDS = 2.0  # how long a call waits for another process's lock
MAX_WAITING = 4096  # writes
MAX_WAITING_BYTES = 64 * 2**20

T = TypeVar("T")


class SqliteDocuments:
    """A DocumentStore in `nearhit.sqlite`. Nothing but the opening blocks the event loop."""

    def __init__(
        self,
        path: Path,
        lock: DirectoryLock | None,
        *,
        busy_seconds: float,
        max_waiting: int,
        max_waiting_bytes: int,
    ) -> None:
        self._lock = lock
        connect = partial(connect_to, path, busy_seconds, read_only=lock is None)
        self._writer = GroupWriter(connect, max_writes=max_waiting, max_bytes=max_waiting_bytes)
        self._reader = Reader(connect, "nearhit-read")
        self._scanner = Reader(connect, "nearhit-scan")  # long reads do not hold up `get`

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        read_only: bool = False,
        busy_seconds: float = BUSY_SECONDS,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> Self:
        """Open the file in the directory; both are created unless read_only.

        Read-only works beside a running server, and its writes raise StoreUnavailable.
        Raises StoreUnavailable for a directory that another process writes to, a file that
        cannot be used, or one that another version of Nearhit wrote.
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
        )

    async def put(self, entry: Entry) -> None:
        await self._writer.submit(rows.INSERT, lambda: [rows.encode(entry)], size=size_of(entry))

    async def get(self, id: EntryId) -> Entry | None:
        row = await self._reader.read(
            lambda connection: connection.execute(rows.SELECT_ONE, (id,)).fetchone()
        )
        return None if row is None else rows.decode(row)

    async def delete(self, ids: Sequence[EntryId]) -> int:
        statement = "DELETE FROM entries WHERE id = ?"
        return await self._writer.submit(statement, lambda: [(id,) for id in ids])

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
        if cursor is not None and not cursor.isdecimal():
            raise ValueError(f"cursor {cursor!r} is not one that a listing returned")
        before = 2**63 - 1 if cursor is None else min(int(cursor), 2**63 - 1)
        clauses, values = where(filter)
        statement = (
            f"SELECT {rows.SUMMARY} FROM entries WHERE n < ?{clauses} ORDER BY n DESC LIMIT ?"
        )
        found = await self._scanner.read(
            lambda connection: connection.execute(
                statement, (before, *values, limit + 1)
            ).fetchall()
        )
        more = str(found[limit - 1][0]) if len(found) > limit else None
        return Page(tuple(rows.summary(row) for row in found[:limit]), more)

    async def count(self) -> int:
        found = await self._scanner.read(
            lambda connection: connection.execute("SELECT count(*) FROM entries").fetchone()
        )
        return int(found[0])

    async def ping(self) -> None:
        await self._reader.read(
            lambda connection: connection.execute("SELECT 1 FROM entries LIMIT 1").fetchone()
        )
        await self.delete([EntryId("")])  # takes the write lock and changes nothing

    async def aclose(self) -> None:
        await asyncio.to_thread(self._writer.close)
        await self._reader.aclose()
        await self._scanner.aclose()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class Reader:
    """A thread with a connection of its own."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._closed = False

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run the query in the thread; raise StoreUnavailable when SQLite fails."""
        if self._closed:
            raise StoreUnavailable("the document store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, query)

    async def aclose(self) -> None:
        """Close the connection once the reads under way are done."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown()

    def _run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return query(self._connection)
        except (sqlite3.Error, UnicodeError) as error:
            self._disconnect()
            raise StoreUnavailable(f"the document store cannot be read: {error}") from error

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def take_directory(directory: Path) -> DirectoryLock:
    """Create the directory if need be and lock it; raise StoreUnavailable."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"data_dir {directory} cannot be used: {error}") from error
    return DirectoryLock(directory)


def connect_to(path: Path, busy_seconds: float, *, read_only: bool) -> sqlite3.Connection:
    """Open a connection without touching the schema; the file must exist."""
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,  # each is used by one thread at a time, and closed by another
    )
    connection.text_factory = text
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def text(raw: bytes) -> str:
    """Decode a column; what damage made undecodable fails its checksum instead of the query."""
    return raw.decode(errors="replace")


def prepare(path: Path, busy_seconds: float, *, read_only: bool) -> None:
    """Create the schema in a new file; raise StoreUnavailable for a file we cannot use."""
    try:
        if not read_only:
            path.touch(mode=0o600)
        connection = connect_to(path, busy_seconds, read_only=read_only)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if version == 0 and tables == 0 and not read_only:
                connection.execute("PRAGMA page_size = 8192")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(rows.SCHEMA)
                connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.execute("COMMIT")
            elif version != VERSION:
                raise StoreUnavailable(
                    f"{path} has schema version {version}; this Nearhit reads version {VERSION}."
                    " Use the Nearhit that wrote it, or another data_dir"
                )
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"{path} cannot be used: {error}") from error


def where(filter: Filter) -> tuple[str, list[str]]:
    """Return SQL conditions, each beginning with AND, and their values."""
    clauses, values = "", []
    if filter.category:
        clauses += " AND category = ?"
        values.append(filter.category)
    if filter.tenant:
        clauses += " AND tenant = ?"
        values.append(filter.tenant)
    if filter.text:
        clauses += " AND query LIKE ? ESCAPE '\\'"
        escaped = filter.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        values.append(f"%{escaped}%")
    return clauses, values
