"""One thread writes to SQLite, and commits together whatever queued up during the last commit.

A write is one or several statements that take effect as a whole or not at all.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

from store.errors import StoreUnavailable

Row = tuple[Any, ...]
Work = Callable[[sqlite3.Connection], int]  # runs in the writer thread, again after a failure
Outcome = int | StoreUnavailable  # what the work returned, or why it was not done


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """What is to be done in one transaction, and who waits for it."""

    work: Work
    size: int  # bytes that it keeps in memory while it waits
    done: asyncio.Future[int]
    then: Callable[[], None] | None  # runs in the loop after the commit, whoever still waits


class GroupWriter:
    """Takes writes in the order of the calls. A write that fails harms no other."""

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], *, max_writes: int, max_bytes: int
    ) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._max_writes = max_writes
        self._max_bytes = max_bytes
        self._changed = Condition()
        self._waiting: deque[Write] = deque()
        self._bytes = 0
        self._closing = False
        self._thread = Thread(target=self._run, name="nearhit-documents", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many writes wait for their turn."""
        return len(self._waiting)

    def submit(
        self, statement: str, rows: Callable[[], Sequence[Row]], *, size: int = 0
    ) -> asyncio.Future[int]:
        """Queue a statement with its rows; the future gives how many rows changed.

        `rows` runs in the writer thread. Else as `apply`.
        """
        return self.apply(
            lambda connection: connection.executemany(statement, rows()).rowcount, size=size
        )

    def apply(
        self, work: Work, *, size: int = 0, then: Callable[[], None] | None = None
    ) -> asyncio.Future[int]:
        """Queue statements that belong together; the future gives their outcome after the commit.

        `work` neither begins nor ends a transaction; when it raises, nothing that it did stays.
        `size` is what it keeps in memory while it waits, in bytes. After the commit `then` runs in
        the caller's loop, in the order of the commits and before the future is done, even if
        nobody waits for that any more.
        Raises StoreUnavailable when too much waits already or the writer is closed.
        """
        write = Write(work, size, asyncio.get_running_loop().create_future(), then)
        with self._changed:
            if self._closing:
                raise StoreUnavailable("the document store is closed")
            if len(self._waiting) >= self._max_writes or self._bytes + size > self._max_bytes:
                raise StoreUnavailable(
                    f"{len(self._waiting)} writes of {self._bytes} bytes already wait"
                )
            self._waiting.append(write)
            self._bytes += size
            self._changed.notify()
        return write.done

    def close(self) -> None:
        """Finish what was accepted and end the thread. Blocks."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._take():
            settle(list(zip(group, self._write(group), strict=True)))
        self._disconnect()

    def _take(self) -> list[Write]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            group = list(self._waiting)
            self._waiting.clear()
            self._bytes = 0
        return group

    def _write(self, group: list[Write]) -> list[Outcome]:
        try:
            return self._commit(group)
        except sqlite3.OperationalError as error:  # locked, full, read-only: the same for each
            return [StoreUnavailable(f"the document store cannot be written: {error}")] * len(group)
        except Exception as error:
            if len(group) > 1:
                return [outcome for write in group for outcome in self._write([write])]
            return [StoreUnavailable(f"the document store refused a write: {error}")]

    def _commit(self, group: list[Write]) -> list[Outcome]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            outcomes: list[Outcome] = [write.work(connection) for write in group]
            connection.execute("COMMIT")
            return outcomes
        except BaseException:
            self._disconnect()  # rolls back; the next write starts on a fresh connection
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def settle(outcomes: list[tuple[Write, Outcome]]) -> None:
    """Tell the waiting tasks, each in its own loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Write, Outcome]]] = {}
    for write, outcome in outcomes:
        by_loop.setdefault(write.done.get_loop(), []).append((write, outcome))
    for loop, part in by_loop.items():
        try:
            loop.call_soon_threadsafe(tell, part)
        except RuntimeError:  # that loop has ended and nobody waits any more
            continue


def tell(outcomes: list[tuple[Write, Outcome]]) -> None:
    """Resolve futures; runs in their loop."""
    for write, outcome in outcomes:
        if write.then is not None and not isinstance(outcome, StoreUnavailable):
            write.then()
        if write.done.done():  # whoever waited has been cancelled
            continue
        if isinstance(outcome, StoreUnavailable):
            write.done.set_exception(outcome)
        else:
            write.done.set_result(outcome)
