from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from store.documents.writer import GroupWriter, Work
from store.errors import StoreUnavailable

INSERT = "INSERT INTO ferries VALUES (?)"


class Harbour:
    """A small database, and how many transactions it has seen."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections = 0
        self.commits = 0
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE ferries (name TEXT UNIQUE)")
        connection.close()

    def connect(self) -> sqlite3.Connection:
        self.connections += 1
        connection = sqlite3.connect(
            self.path, isolation_level=None, timeout=0.05, check_same_thread=False
        )
        connection.set_trace_callback(self._trace)
        return connection

    def names(self) -> set[str]:
        connection = sqlite3.connect(self.path)
        found = {name for (name,) in connection.execute("SELECT name FROM ferries")}
        connection.close()
        return found

    def _trace(self, statement: str) -> None:
        self.commits += statement == "COMMIT"


@pytest.fixture
def harbour(tmp_path: Path) -> Harbour:
    return Harbour(tmp_path / "harbour.sqlite")


@pytest.fixture
def writer(harbour: Harbour) -> Iterator[GroupWriter]:
    writer = GroupWriter(harbour.connect, max_writes=50, max_bytes=1000)
    yield writer
    writer.close()


def row(name: str) -> Callable[[], list[tuple[Any, ...]]]:
    return lambda: [(name,)]


async def hold_up(writer: GroupWriter) -> threading.Event:
    """Occupy the writer thread until the returned event is set."""
    release, busy = threading.Event(), threading.Event()

    def stay() -> list[tuple[Any, ...]]:
        busy.set()
        release.wait(10)
        return []

    writer.submit(INSERT, stay)
    await asyncio.to_thread(busy.wait, 10)
    return release


async def test_a_write_is_in_the_file_when_its_future_is_done(
    writer: GroupWriter, harbour: Harbour
) -> None:
    assert await writer.submit(INSERT, row("Gull")) == 1
    assert harbour.names() == {"Gull"}


async def test_what_queued_up_during_a_commit_goes_into_the_next_one(
    writer: GroupWriter, harbour: Harbour
) -> None:
    release = await hold_up(writer)
    waiting = [writer.submit(INSERT, row(f"ferry {number}")) for number in range(40)]
    release.set()
    await asyncio.gather(*waiting)
    assert harbour.commits == 2
    assert len(harbour.names()) == 40


async def test_a_write_that_sqlite_refuses_harms_no_other(
    writer: GroupWriter, harbour: Harbour
) -> None:
    release = await hold_up(writer)
    good, twice = writer.submit(INSERT, row("Gull")), writer.submit(INSERT, row("Gull"))
    surrogate, late = writer.submit(INSERT, row("\ud800")), writer.submit(INSERT, row("Tern"))

    def fail() -> list[tuple[Any, ...]]:
        raise KeyError("no such ferry")

    broken = writer.submit(INSERT, fail)
    release.set()
    assert await good == await late == 1
    for refused in (twice, surrogate, broken):
        with pytest.raises(StoreUnavailable, match="refused a write"):
            await refused
    assert harbour.names() == {"Gull", "Tern"}


def both(*names: str) -> Work:
    """Write the names one by one, and say how many there are then."""

    def write(connection: sqlite3.Connection) -> int:
        for name in names:
            connection.execute(INSERT, (name,))
        (count,) = connection.execute("SELECT count(*) FROM ferries").fetchone()
        return int(count)

    return write


async def test_several_statements_are_one_write_whose_outcome_is_returned(
    writer: GroupWriter, harbour: Harbour
) -> None:
    await writer.submit(INSERT, row("Gull"))
    assert await writer.apply(both("Tern", "Auk")) == 3
    assert harbour.names() == {"Gull", "Tern", "Auk"}
    assert harbour.commits == 2


@pytest.mark.parametrize("neighbours", [0, 3], ids=["alone", "in company"])
async def test_when_the_second_statement_fails_the_first_leaves_nothing(
    writer: GroupWriter, harbour: Harbour, neighbours: int
) -> None:
    await writer.submit(INSERT, row("Gull"))
    release = await hold_up(writer)
    others = [writer.submit(INSERT, row(f"ferry {number}")) for number in range(neighbours)]
    broken = writer.apply(both("Tern", "Gull"))
    late = writer.apply(both("Auk"))
    release.set()
    with pytest.raises(StoreUnavailable, match="refused a write: UNIQUE"):
        await broken
    assert await late == neighbours + 2
    await asyncio.gather(*others)
    assert harbour.names() == {"Gull", "Auk", *(f"ferry {n}" for n in range(neighbours))}


async def test_statements_count_what_they_keep_waiting(writer: GroupWriter) -> None:
    release = await hold_up(writer)
    first = writer.apply(both("Gull"), size=900)
    with pytest.raises(StoreUnavailable, match="1 writes of 900 bytes already wait"):
        writer.apply(both("Tern"), size=200)
    release.set()
    await first


async def test_a_locked_file_fails_all_and_the_next_write_tries_again(
    writer: GroupWriter, harbour: Harbour
) -> None:
    await writer.submit(INSERT, row("Gull"))
    blocker = sqlite3.connect(harbour.path, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    waiting = [writer.submit(INSERT, row(f"ferry {number}")) for number in range(3)]
    for future in waiting:
        with pytest.raises(StoreUnavailable, match="cannot be written: database is locked"):
            await future
    blocker.execute("ROLLBACK")
    blocker.close()
    assert await writer.submit(INSERT, row("Tern")) == 1
    assert harbour.names() == {"Gull", "Tern"}
    assert harbour.connections > 1  # a connection that failed is not trusted again


async def test_too_many_waiting_writes_are_refused(writer: GroupWriter) -> None:
    release = await hold_up(writer)
    waiting = [writer.submit(INSERT, row(f"ferry {number}")) for number in range(50)]
    with pytest.raises(StoreUnavailable, match="50 writes of 0 bytes already wait"):
        writer.submit(INSERT, row("one more"))
    release.set()
    await asyncio.gather(*waiting)
    assert await writer.submit(INSERT, row("one more")) == 1


async def test_too_many_waiting_bytes_are_refused(writer: GroupWriter) -> None:
    release = await hold_up(writer)
    first = writer.submit(INSERT, row("heavy"), size=900)
    with pytest.raises(StoreUnavailable, match="1 writes of 900 bytes already wait"):
        writer.submit(INSERT, row("heavier"), size=200)
    release.set()
    await first


async def test_a_caller_that_left_stops_nobody(writer: GroupWriter, harbour: Harbour) -> None:
    release = await hold_up(writer)
    left, stays = writer.submit(INSERT, row("Gull")), writer.submit(INSERT, row("Tern"))
    left.cancel()
    release.set()
    assert await stays == 1
    assert harbour.names() == {"Gull", "Tern"}


async def test_closing_finishes_what_was_accepted_and_takes_no_more(
    writer: GroupWriter, harbour: Harbour
) -> None:
    release = await hold_up(writer)
    waiting = [writer.submit(INSERT, row(f"ferry {number}")) for number in range(5)]
    closing = asyncio.create_task(asyncio.to_thread(writer.close))
    release.set()
    await closing
    assert [await future for future in waiting] == [1] * 5
    with pytest.raises(StoreUnavailable, match="closed"):
        writer.submit(INSERT, row("late"))
    assert len(harbour.names()) == 5


def test_a_loop_that_ended_does_not_stop_the_thread(harbour: Harbour) -> None:
    writer = GroupWriter(harbour.connect, max_writes=5, max_bytes=5)
    release = threading.Event()

    def wait_then_write() -> list[tuple[Any, ...]]:
        release.wait(10)
        return [("Gull",)]

    async def leave_early() -> None:
        writer.submit(INSERT, wait_then_write)

    asyncio.run(leave_early())
    release.set()

    async def come_again() -> int:
        return await writer.submit(INSERT, row("Tern"))

    assert asyncio.run(come_again()) == 1
    writer.close()
    assert harbour.names() == {"Gull", "Tern"}
