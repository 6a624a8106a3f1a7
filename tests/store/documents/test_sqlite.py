from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.documents import schema, sqlite
from store.documents.base import Filter
from store.documents.schema import VERSION
from store.documents.sqlite import SqliteDocuments
from store.entry import EntryId
from store.errors import StoreUnavailable
from tests.entries import axis, entry

pytestmark = pytest.mark.serial

A = EntryId("a")
SOON = 3.0  # seconds in which a call on a broken store has to give up


@pytest.fixture
async def documents(tmp_path: Path) -> AsyncIterator[SqliteDocuments]:
    documents = SqliteDocuments.open(tmp_path, busy_seconds=0.05)
    yield documents
    await documents.aclose()


def raw(directory: Path) -> sqlite3.Connection:
    return sqlite3.connect(directory / sqlite.FILE, isolation_level=None)


def change(directory: Path, statement: str) -> None:
    connection = raw(directory)
    connection.execute(statement)
    connection.close()


async def ids(documents: SqliteDocuments) -> list[str]:
    return [stored.held.id async for part in documents.load_all(10) for stored in part]


async def test_entries_are_there_after_closing_and_opening(tmp_path: Path) -> None:
    first = SqliteDocuments.open(tmp_path / "new" / "deep")
    await first.put(entry("a", vector=axis(0)))
    await first.aclose()
    second = SqliteDocuments.open(tmp_path / "new" / "deep")
    assert await ids(second) == ["a"]
    await second.aclose()


WRITE_ON = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from store.documents.sqlite import SqliteDocuments
    from tests.entries import entry

    async def main():
        documents = SqliteDocuments.open(Path(sys.argv[1]))

        async def write(lane):
            number = 0
            while True:
                await documents.put(entry(f"{lane}-{number}"))
                print(f"{lane}-{number}", flush=True)
                number += 1

        await asyncio.gather(*(write(lane) for lane in range(4)))

    asyncio.run(main())
""")


def write_until_killed(directory: Path) -> list[str]:
    """Return the ids that a process acknowledged before it was killed in the middle of writing."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_ON, str(directory)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().strip() for _ in range(200)]
        child.send_signal(signal.SIGKILL)
        return acknowledged + child.stdout.read().split("\n")[:-1]


async def test_an_acknowledged_entry_survives_kill_9(tmp_path: Path) -> None:
    acknowledged = write_until_killed(tmp_path)
    documents = SqliteDocuments.open(tmp_path)
    assert set(acknowledged) <= set(await ids(documents))
    assert len(acknowledged) >= 200
    for id in acknowledged:
        assert await documents.get(EntryId(id)) == entry(id)
    await documents.aclose()


async def test_a_locked_file_is_unavailable_for_writing_and_readable(
    documents: SqliteDocuments, tmp_path: Path
) -> None:
    await documents.put(entry("a"))
    blocker = raw(tmp_path)
    blocker.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    for call in (documents.put(entry("b")), documents.purge([A]), documents.ping()):
        with pytest.raises(StoreUnavailable, match="database is locked"):
            await call
    assert time.monotonic() - started < SOON
    assert await documents.get(A) == entry("a")
    blocker.execute("ROLLBACK")
    blocker.close()
    await documents.put(entry("b"))
    assert await ids(documents) == ["a", "b"]


async def test_a_full_disk_is_unavailable_and_works_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [20]
    connect = schema.connect_to

    def connect_to_a_small_disk(
        path: Path, busy_seconds: float, *, read_only: bool
    ) -> sqlite3.Connection:
        connection = connect(path, busy_seconds, read_only=read_only)
        connection.execute(f"PRAGMA max_page_count = {pages[0]}")
        return connection

    monkeypatch.setattr(sqlite, "connect_to", connect_to_a_small_disk)
    documents = SqliteDocuments.open(tmp_path)
    await documents.put(entry("a"))
    large = entry("b", body=bytes(range(256)) * 4096, query="q" * 200_000)
    with pytest.raises(StoreUnavailable, match="full"):
        await documents.put(large)
    assert await ids(documents) == ["a"]
    pages[0] = 10_000
    await documents.put(large)
    assert await ids(documents) == ["a", "b"]
    await documents.aclose()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / sqlite.FILE).write_bytes(b"minutes of the harbour board\n" * 1000)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        SqliteDocuments.open(tmp_path)
    (tmp_path / sqlite.FILE).unlink()
    await SqliteDocuments.open(tmp_path).aclose()  # the lock was let go


@pytest.mark.parametrize("version", [VERSION + 1, 99, -1])
async def test_a_file_of_another_version_is_refused_and_left_alone(
    tmp_path: Path, version: int
) -> None:
    await SqliteDocuments.open(tmp_path).aclose()
    change(tmp_path, f"PRAGMA user_version = {version}")
    before = (tmp_path / sqlite.FILE).read_bytes()
    with pytest.raises(
        StoreUnavailable,
        match=f"schema version {version}; this Nearhit reads versions 1 to {VERSION}",
    ):
        SqliteDocuments.open(tmp_path)
    assert (tmp_path / sqlite.FILE).read_bytes() == before


async def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    change(tmp_path, "CREATE TABLE minutes (text)")
    with pytest.raises(StoreUnavailable, match="schema version 0"):
        SqliteDocuments.open(tmp_path)


async def test_a_file_damaged_in_the_middle_never_serves_a_wrong_entry(tmp_path: Path) -> None:
    documents = SqliteDocuments.open(tmp_path)
    stored = {f"e{n}": entry(f"e{n}", body=bytes([n]) * 3000) for n in range(100)}
    await asyncio.gather(*(documents.put(one) for one in stored.values()))
    await documents.aclose()
    path = tmp_path / sqlite.FILE
    content = bytearray(path.read_bytes())
    start = content.index(b"ferry e40 ")  # among the rows, not the index
    content[start : start + 8_000] = b"\xa5" * 8_000
    path.write_bytes(content)
    documents = SqliteDocuments.open(tmp_path)
    intact = 0
    for id, one in stored.items():
        try:
            found = await asyncio.wait_for(documents.get(EntryId(id)), SOON)
        except StoreUnavailable:
            continue
        assert found is None or found == one
        intact += found is not None
    assert intact < 100
    try:
        assert set(await ids(documents)) < stored.keys()
    except StoreUnavailable as error:
        assert "cannot be read" in str(error)
    await documents.aclose()


async def test_damaged_rows_are_absent_and_the_others_are_not(
    documents: SqliteDocuments, tmp_path: Path
) -> None:
    for id in ("a", "b", "c"):
        await documents.put(entry(id, vector=axis(0)))
    change(tmp_path, "UPDATE entries SET body = x'00' WHERE id = 'a'")
    change(tmp_path, "UPDATE entries SET query = CAST(x'FFFE' AS TEXT) WHERE id = 'b'")
    assert await documents.get(A) is None
    assert await documents.get(EntryId("b")) is None
    assert await documents.get(EntryId("c")) is not None
    assert await ids(documents) == ["a", "c"]  # a body is checked when it is fetched
    await documents.put(entry("a"))
    assert await documents.get(A) == entry("a")


async def test_approving_does_not_make_damage_look_sound(
    documents: SqliteDocuments, tmp_path: Path
) -> None:
    for id in ("a", "b", "c"):
        await documents.put(entry(id, shared_key=f"s-{id}"))
    change(tmp_path, "UPDATE entries SET query = 'something else' WHERE id = 'a'")
    change(tmp_path, "UPDATE entries SET query = CAST(x'FFFE' AS TEXT) WHERE id = 'b'")
    assert await documents.approve([A, EntryId("b"), EntryId("c")]) == 1
    assert await ids(documents) == ["c"]
    assert await documents.get(A) is None


async def test_an_approval_survives_reopening(tmp_path: Path) -> None:
    first = SqliteDocuments.open(tmp_path)
    await first.put(entry("a", shared_key="s", vector=axis(0)))
    await first.approve([A])
    await first.aclose()
    second = SqliteDocuments.open(tmp_path)
    (stored,) = [stored async for part in second.load_all(10) for stored in part]
    assert stored.held.approved
    await second.aclose()


async def test_a_row_that_cannot_be_listed_stops_no_listing(
    documents: SqliteDocuments, tmp_path: Path
) -> None:
    for id in ("a", "b", "c"):
        await documents.put(entry(id, tags=("kettle",)))
    change(tmp_path, "UPDATE entries SET tags = '[' WHERE id = 'b'")
    for filter in (Filter(), Filter(tag="kettle")):
        page = await documents.browse(filter, limit=10)
        assert [line.id for line in page.entries] == ["c", "a"]


async def test_a_table_that_vanished_is_unavailable(
    documents: SqliteDocuments, tmp_path: Path
) -> None:
    change(tmp_path, "ALTER TABLE entries RENAME TO moved")
    for call in (documents.put(entry("a")), documents.get(A), documents.count(), documents.ping()):
        with pytest.raises(StoreUnavailable, match="no such table"):
            await call
    change(tmp_path, "ALTER TABLE moved RENAME TO entries")
    await documents.put(entry("a"))
    assert await documents.get(A) == entry("a")


async def test_a_second_server_on_the_directory_is_refused(
    documents: SqliteDocuments, tmp_path: Path
) -> None:
    with pytest.raises(StoreUnavailable, match="is in use by process"):
        SqliteDocuments.open(tmp_path)


async def test_reading_beside_a_running_server_is_allowed_and_writing_is_not(
    documents: SqliteDocuments, tmp_path: Path
) -> None:
    await documents.put(entry("a"))
    onlooker = SqliteDocuments.open(tmp_path, read_only=True)
    assert await ids(onlooker) == ["a"]
    assert [line.id for line in (await onlooker.browse(Filter(), limit=5)).entries] == ["a"]
    for call in (onlooker.put(entry("b")), onlooker.purge([A]), onlooker.ping()):
        with pytest.raises(StoreUnavailable, match="readonly"):
            await call
    await onlooker.aclose()
    await documents.put(entry("b"))


def test_reading_needs_a_store_that_exists(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does not exist"):
        SqliteDocuments.open(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []


async def test_a_data_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    with pytest.raises(StoreUnavailable, match="data_dir .* cannot be used"):
        SqliteDocuments.open(tmp_path / "data")


async def test_a_file_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / sqlite.FILE).mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        SqliteDocuments.open(tmp_path)


async def test_more_than_may_wait_is_refused_at_once(tmp_path: Path) -> None:
    documents = SqliteDocuments.open(tmp_path, max_waiting=2)
    outcomes = await asyncio.gather(
        *(documents.put(entry(f"e{number}")) for number in range(20)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable)]
    assert refused
    assert len(await ids(documents)) == 20 - len(refused)
    await documents.aclose()


async def test_a_put_whose_caller_left_still_counts(documents: SqliteDocuments) -> None:
    put = asyncio.create_task(documents.put(entry("a")))
    await asyncio.sleep(0)  # it is queued
    put.cancel()
    await documents.put(entry("b"))
    assert await ids(documents) == ["a", "b"]


async def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    await SqliteDocuments.open(tmp_path).aclose()
    assert (tmp_path / sqlite.FILE).stat().st_mode & 0o077 == 0
