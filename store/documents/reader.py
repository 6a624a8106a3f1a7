"""Reading SQLite off the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from store.errors import StoreUnavailable

T = TypeVar("T")


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
