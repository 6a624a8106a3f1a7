from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator

import pytest

from store.documents.reader import Reader
from store.errors import StoreUnavailable


class Source:
    """Hands out connections and counts them."""

    def __init__(self) -> None:
        self.connections: list[sqlite3.Connection] = []

    def connect(self) -> sqlite3.Connection:
        self.connections.append(sqlite3.connect(":memory:", check_same_thread=False))
        return self.connections[-1]


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def reader(source: Source) -> AsyncIterator[Reader]:
    reader = Reader(source.connect, "test-read")
    yield reader
    await reader.aclose()


def one(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT 1").fetchone()[0])


def no_such_table(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT n FROM ferries").fetchone()[0])


async def test_reads_share_a_connection_and_stay_off_the_loop(
    reader: Reader, source: Source
) -> None:
    assert source.connections == []  # nothing is opened before it is needed
    first, second = await asyncio.gather(reader.read(one), reader.read(one))
    assert first == second == 1
    assert len(source.connections) == 1
    thread = await reader.read(lambda _: threading.current_thread().name)
    assert thread.startswith("test-read")


async def test_after_a_failure_the_next_read_has_a_fresh_connection(
    reader: Reader, source: Source
) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be read: no such table"):
        await reader.read(no_such_table)
    assert await reader.read(one) == 1
    assert len(source.connections) == 2
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        one(source.connections[0])


async def test_closing_waits_for_reads_under_way_and_takes_no_more(
    reader: Reader, source: Source
) -> None:
    busy, release = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> int:
        busy.set()
        release.wait(10)
        return one(connection)

    reading = asyncio.create_task(reader.read(slow))
    await asyncio.to_thread(busy.wait, 10)
    closing = asyncio.create_task(reader.aclose())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="closed"):
        await reader.read(one)
    release.set()
    await closing
    assert await reading == 1
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        one(source.connections[0])
    await reader.aclose()  # once more changes nothing
