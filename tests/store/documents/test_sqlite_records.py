from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.documents import sqlite
from store.documents.records import AuditRow, PolicyVersion
from store.documents.sqlite import SqliteDocuments
from store.documents.sqlite_records import SqliteRecords
from store.entry import EntryId
from store.errors import StoreUnavailable
from tests.entries import NOON, entry

A = EntryId("a")
LOOK = AuditRow(at=NOON, who="ops", action="look")


@pytest.fixture
async def documents(tmp_path: Path) -> AsyncIterator[SqliteDocuments]:
    documents = SqliteDocuments.open(tmp_path, busy_seconds=0.05)
    yield documents
    await documents.aclose()


@pytest.fixture
def records(documents: SqliteDocuments) -> SqliteRecords:
    return documents.records


def version(note: str) -> PolicyVersion:
    return PolicyVersion(at=NOON, who="ops", source="api", seed="s", document="{}", note=note)


def change(directory: Path, statement: str) -> None:
    connection = sqlite3.connect(directory / sqlite.FILE, isolation_level=None)
    connection.execute(statement)
    connection.close()


async def test_a_version_whose_audit_row_cannot_be_written_is_not_there(
    records: SqliteRecords, documents: SqliteDocuments
) -> None:
    await records.add_version(version("first"), LOOK)
    unwritable = AuditRow(at=NOON, who="\ud800", action="no text of UTF-8")
    refused, stored, number = await asyncio.gather(
        records.add_version(version("second"), unwritable),
        documents.put(entry("a")),
        records.add_version(version("third"), LOOK),
        return_exceptions=True,
    )
    assert isinstance(refused, StoreUnavailable)
    assert (stored, number) == (None, 2)
    assert [v.note for v in (await records.versions(limit=9)).items] == ["third", "first"]
    assert (await records.audit(limit=9)).items == (LOOK, LOOK)
    assert await documents.get(A) == entry("a")


async def test_records_are_there_after_closing_and_opening(tmp_path: Path) -> None:
    first = SqliteDocuments.open(tmp_path)
    await first.records.add_version(version("first"), LOOK)
    await first.records.quarantine(A, "harbour", NOON, "wrong")
    await first.aclose()
    second = SqliteDocuments.open(tmp_path)
    latest = await second.records.latest_version()
    assert latest is not None
    assert (latest.number, latest.note) == (1, "first")
    assert await second.records.quarantined() == [(A, "harbour")]
    await second.aclose()


WRITE_ON = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from store.documents.records import AuditRow, PolicyVersion
    from store.documents.sqlite import SqliteDocuments
    from tests.entries import NOON

    async def main():
        records = SqliteDocuments.open(Path(sys.argv[1])).records
        while True:
            version = PolicyVersion(
                at=NOON, who="ops", source="api", seed="s", document="{}", note=""
            )
            number = await records.add_version(version, AuditRow(at=NOON, who="ops", action="put"))
            print(number, flush=True)

    asyncio.run(main())
""")


def write_until_killed(directory: Path) -> int:
    """Return the last number that a process acknowledged before it was killed in the middle."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_ON, str(directory)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline() for _ in range(50)]
        child.send_signal(signal.SIGKILL)
        acknowledged += child.stdout.read().splitlines()
    return max(int(line) for line in acknowledged if line.strip().isdecimal())


async def test_an_acknowledged_version_survives_kill_9_with_its_audit_row(tmp_path: Path) -> None:
    last = write_until_killed(tmp_path)
    assert last >= 50
    documents = SqliteDocuments.open(tmp_path)
    latest = await documents.records.latest_version()
    assert latest is not None
    assert latest.number >= last
    assert len((await documents.records.audit(limit=10**6)).items) == latest.number
    await documents.aclose()


async def test_a_damaged_latest_version_is_an_error_and_not_the_one_before(
    records: SqliteRecords, tmp_path: Path
) -> None:
    for note in ("first", "second", "third"):
        await records.add_version(version(note), LOOK)
    change(tmp_path, "UPDATE policy_versions SET document = '[]' WHERE n = 3")
    for call in (records.latest_version(), records.version(3)):
        with pytest.raises(StoreUnavailable, match="policy version 3 is damaged"):
            await call
    assert [v.note for v in (await records.versions(limit=9)).items] == ["second", "first"]
    assert await records.add_version(version("fourth"), LOOK) == 4
    latest = await records.latest_version()
    assert latest is not None
    assert latest.note == "fourth"


async def test_damaged_rows_are_left_out_and_the_parts_go_on(
    records: SqliteRecords, tmp_path: Path
) -> None:
    for number in range(5):
        await records.add_audit(AuditRow(at=NOON, who="ops", action=str(number)))
    change(tmp_path, "UPDATE audit SET who = 'somebody' WHERE action IN ('2', '3')")
    first = await records.audit(limit=2)
    second = await records.audit(limit=2, cursor=first.next)
    third = await records.audit(limit=2, cursor=second.next)
    assert [[row.action for row in part.items] for part in (first, second, third)] == [
        ["4"],
        ["1"],
        ["0"],
    ]
    assert third.next is None


async def test_a_quarantine_holds_though_its_row_is_damaged(
    records: SqliteRecords, tmp_path: Path
) -> None:
    await records.quarantine(A, "harbour", NOON, "wrong")
    change(tmp_path, "UPDATE quarantine SET why = CAST(x'FFFE' AS TEXT), at_us = 'noon'")
    assert await records.quarantined() == [(A, "harbour")]


async def test_a_locked_file_is_unavailable_for_writing_and_readable(
    records: SqliteRecords, tmp_path: Path
) -> None:
    await records.add_version(version("first"), LOOK)
    blocker = sqlite3.connect(tmp_path / sqlite.FILE, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    for call in (
        records.add_version(version("second"), LOOK),
        records.quarantine(A, "", NOON, "wrong"),
        records.release(A, ""),
    ):
        with pytest.raises(StoreUnavailable, match="database is locked"):
            await call
    latest = await records.latest_version()
    assert latest is not None
    assert latest.note == "first"
    blocker.execute("ROLLBACK")
    blocker.close()
    assert await records.add_version(version("second"), LOOK) == 2


async def test_writes_beside_a_running_server_are_refused_and_reading_is_not(
    records: SqliteRecords, tmp_path: Path
) -> None:
    await records.add_version(version("first"), LOOK)
    onlooker = SqliteDocuments.open(tmp_path, read_only=True)
    assert len((await onlooker.records.versions(limit=5)).items) == 1
    with pytest.raises(StoreUnavailable, match="readonly"):
        await onlooker.records.add_audit(LOOK)
    await onlooker.aclose()
