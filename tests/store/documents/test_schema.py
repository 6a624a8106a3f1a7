"""Files of earlier versions: what they hold is there after the upgrade, and can be read before."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.documents import record_tables, rows, schema, sqlite
from store.documents.base import Filter
from store.documents.records import AuditRow, Pair
from store.documents.sqlite import SqliteDocuments
from store.documents.usage import Span, UsageKey, UsageRow, start_of
from store.entry import Entry, EntryId
from store.errors import StoreUnavailable
from tests.entries import NOON, axis, entry

# To the letter what Nearhit 0.1.0 wrote.
VERSION_1 = """
CREATE TABLE entries (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    partition TEXT NOT NULL,
    context TEXT NOT NULL,
    tenant TEXT NOT NULL,
    category TEXT NOT NULL,
    route TEXT NOT NULL,
    model TEXT NOT NULL,
    query TEXT NOT NULL,
    tags TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    size INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    checkpoint TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    body_checksum INTEGER NOT NULL,
    compressed INTEGER NOT NULL,
    vector BLOB,
    body BLOB NOT NULL
)
"""
INSERT_1 = """
INSERT INTO entries (id, partition, context, tenant, category, route, model, query, tags,
    created_us, size, content_type, checkpoint, checksum, vector, body_checksum, compressed, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
NOON_US = 1935662400123456
SINCE_VERSION_5 = ("usage", "usage_batches")  # tables
OLD = [
    entry("a", vector=axis(3), tags=("x", "naïve")),
    entry("b", query="Zoë 🦊", body=b"the tide is low. " * 1000),
    entry("c"),
]
A = EntryId("a")


def insert(connection: sqlite3.Connection, stored: Entry) -> None:
    vector = None if stored.vector is None else stored.vector.tobytes()
    size = len(stored.body) + len(stored.query.encode()) + len(vector or b"") + 512
    head = (
        stored.id,
        *stored.key,
        stored.tenant,
        stored.category,
        stored.route,
        stored.model,
        stored.query,
        json.dumps(stored.tags),
        NOON_US,
        size,
        stored.content_type,
        stored.checkpoint,
    )
    checksum = zlib.crc32(vector or b"", zlib.crc32(repr(head).encode()))
    packed = zlib.compress(stored.body, 1)
    body = packed if len(stored.body) >= 200 else stored.body
    stamps = (zlib.crc32(stored.body), body is packed, body)
    connection.execute(INSERT_1, (*head, checksum, vector, *stamps))


def file_of_version_1(directory: Path, entries: Sequence[Entry] = OLD) -> Path:
    path = directory / sqlite.FILE
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA page_size = 8192")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(VERSION_1)
    connection.execute("PRAGMA user_version = 1")
    for stored in entries:
        insert(connection, stored)
    connection.close()
    return path


def described(path: Path) -> dict[str, set[tuple[str, str, int, str | None, int]]]:
    """Return each table's columns, and the indexes, whatever their order."""
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema").fetchall()]
    found = {
        name: {row[1:] for row in connection.execute(f"PRAGMA table_info({name})")}
        for name in names
    }
    connection.close()
    return found


def version_in(path: Path) -> int:
    connection = sqlite3.connect(path)
    version = schema.version_of(connection)
    connection.close()
    return version


async def all_of(documents: SqliteDocuments) -> list[Entry | None]:
    loaded = [stored.held.id async for part in documents.load_all(2) for stored in part]
    return [await documents.get(id) for id in loaded]


def same(left: Sequence[Entry | None], right: Sequence[Entry]) -> bool:
    """Whether the entries are equal; vectors by their bytes."""

    def plain(stored: Entry | None) -> tuple[object, ...]:
        assert stored is not None
        fields = (getattr(stored, name) for name in Entry.__dataclass_fields__)
        return tuple(plain_field(field) for field in fields)

    return [plain(one) for one in left] == [plain(one) for one in right]


def plain_field(field: Any) -> Any:
    if isinstance(field, tuple):
        return tuple(map(plain_field, field))
    return field.tobytes() if isinstance(field, np.ndarray) else field


async def test_a_file_of_version_1_keeps_its_entries_and_gets_the_new_tables(
    tmp_path: Path,
) -> None:
    path = file_of_version_1(tmp_path)
    documents = SqliteDocuments.open(tmp_path)
    assert same(await all_of(documents), OLD)
    shared = entry("a", shared_key="s", answer_id="x-1", cost=2.5)
    await documents.put(shared)
    await documents.put(entry("d", user="u"))
    await documents.approve([A])
    await documents.records.add_audit(AuditRow(at=NOON, who="ops", action="look"))
    assert await documents.records.find_answer("airport", "x-1") == "a"
    await documents.aclose()
    assert version_in(path) == schema.VERSION
    documents = SqliteDocuments.open(tmp_path)
    found = await all_of(documents)
    assert [one.id for one in found if one] == ["b", "c", "a", "d"]
    assert found[2] is not None
    assert (found[2].approved, found[2].cost) == (True, 2.5)
    await documents.aclose()


async def test_a_migrated_file_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old = file_of_version_1(tmp_path / "old")
    for name in ("old", "new"):
        await SqliteDocuments.open(tmp_path / name).aclose()
    assert described(old) == described(tmp_path / "new" / sqlite.FILE)


async def test_damage_in_a_migrated_row_is_still_noticed(tmp_path: Path) -> None:
    path = file_of_version_1(tmp_path)
    await SqliteDocuments.open(tmp_path).aclose()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE entries SET query = 'something else' WHERE id = 'a'")
        connection.execute("UPDATE entries SET shared_key = 's', approved = 1 WHERE id = 'b'")
    connection.close()
    documents = SqliteDocuments.open(tmp_path)
    assert same(await all_of(documents), OLD[2:])
    await documents.aclose()


async def test_a_migration_that_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    path = file_of_version_1(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE quarantine (minutes)")  # in the way of the last statement
    connection.close()
    before = described(path)
    for _ in range(2):  # the lock was let go
        with pytest.raises(StoreUnavailable, match="quarantine already exists"):
            SqliteDocuments.open(tmp_path)
    assert described(path) == before
    assert version_in(path) == 1


async def test_a_file_of_version_1_is_read_without_changing_it(tmp_path: Path) -> None:
    path = file_of_version_1(tmp_path)
    before = described(path)
    onlooker = SqliteDocuments.open(tmp_path, read_only=True)
    assert same(await all_of(onlooker), OLD)
    assert await onlooker.count() == 3
    page = await onlooker.browse(Filter(tag="x"), limit=5)
    assert [(line.id, line.user, line.approved) for line in page.entries] == [("a", "", False)]
    assert (await onlooker.records.audit(limit=5)).items == ()
    assert await onlooker.records.latest_version() is None
    assert await onlooker.records.find_answer("harbour", "x-1") is None
    audit = AuditRow(at=NOON, who="ops", action="look")
    for call in (
        onlooker.put(entry("d")),
        onlooker.purge([A]),
        onlooker.records.add_audit(audit),
        onlooker.records.quarantine(A, "", NOON, "wrong"),
        onlooker.ping(),
    ):
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            await call
    await onlooker.aclose()
    assert described(path) == before
    assert version_in(path) == 1


async def test_an_onlooker_reads_on_while_the_file_is_migrated(tmp_path: Path) -> None:
    file_of_version_1(tmp_path)
    onlooker = SqliteDocuments.open(tmp_path, read_only=True)
    assert await onlooker.count() == 3
    documents = SqliteDocuments.open(tmp_path)
    await documents.put(entry("d", user="u"))
    assert await onlooker.count() == 4
    assert same(await all_of(onlooker), OLD)  # a row with more than version 1 is not for it
    await onlooker.aclose()
    again = SqliteDocuments.open(tmp_path, read_only=True)
    assert same(await all_of(again), [*OLD, entry("d", user="u")])
    await again.aclose()
    await documents.aclose()


async def test_a_copy_taken_before_the_upgrade_can_be_upgraded_too(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    path = file_of_version_1(tmp_path)
    shutil.copy(path, tmp_path / "copy" / sqlite.FILE)
    await SqliteDocuments.open(tmp_path).aclose()
    copy = SqliteDocuments.open(tmp_path / "copy")
    assert same(await all_of(copy), OLD)
    await copy.aclose()


# -- version 2

# To the letter how Nearhit made the entries of a new file in version 2.
VERSION_2 = """
CREATE TABLE entries (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    partition TEXT NOT NULL,
    context TEXT NOT NULL,
    tenant TEXT NOT NULL,
    category TEXT NOT NULL,
    route TEXT NOT NULL,
    model TEXT NOT NULL,
    query TEXT NOT NULL,
    tags TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    size INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    checkpoint TEXT NOT NULL,
    user TEXT NOT NULL DEFAULT '',
    classifier TEXT NOT NULL DEFAULT '',
    shared_key TEXT NOT NULL DEFAULT '',
    approved INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0.0,
    answer_id TEXT NOT NULL DEFAULT '',
    checksum INTEGER NOT NULL,
    body_checksum INTEGER NOT NULL,
    compressed INTEGER NOT NULL,
    vector BLOB,
    body BLOB NOT NULL
)
"""
INSERT_2 = """
INSERT INTO entries (id, partition, context, tenant, category, route, model, query, tags,
    created_us, size, content_type, checkpoint, user, classifier, shared_key, approved, cost,
    answer_id, checksum, vector, body_checksum, compressed, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
FOLLOW_UP: dict[str, Any] = {
    "vector": axis(2),
    "earlier": ("When does it leave?", "From which pier?"),
    "earlier_vectors": (axis(3), None),
}


def file_of_version_2(directory: Path) -> tuple[Path, list[Entry]]:
    """Write a file of version 2 with a row as version 1 left it, and one with all of version 2."""
    full = entry("b", vector=axis(1), user="u", shared_key="s", cost=2.5, answer_id="x-1")
    path = directory / sqlite.FILE
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA page_size = 8192")
    connection.execute("PRAGMA journal_mode = WAL")
    for statement in (VERSION_2, rows.ANSWER_INDEX, *record_tables.SCHEMA):
        connection.execute(statement)
    connection.execute("PRAGMA user_version = 2")
    insert(connection, OLD[0])
    assert full.vector is not None
    vector = full.vector.tobytes()
    whose = (full.id, *full.key, full.tenant, full.category, full.route, full.model, full.query)
    size = len(full.body) + len(full.query) + len(vector) + len("u" + "s" + "x-1") + 512
    when = (json.dumps(full.tags), NOON_US, size, full.content_type, full.checkpoint)
    head = (*whose, *when, "u", "", "s", 0, 2.5, "x-1")
    checksum = zlib.crc32(vector, zlib.crc32(repr(head).encode()))
    row = (*head, checksum, vector, zlib.crc32(full.body), False, full.body)
    connection.execute(INSERT_2, row)
    connection.close()
    return path, [OLD[0], full]


async def test_a_file_of_version_2_keeps_its_entries_and_takes_follow_ups(tmp_path: Path) -> None:
    path, old = file_of_version_2(tmp_path)
    documents = SqliteDocuments.open(tmp_path)
    assert same(await all_of(documents), old)
    follow_up = entry("c", key_id="0123456789ab", **FOLLOW_UP)
    await documents.put(follow_up)
    await documents.aclose()
    assert version_in(path) == schema.VERSION
    documents = SqliteDocuments.open(tmp_path)
    assert same(await all_of(documents), [*old, follow_up])
    await documents.aclose()


async def test_a_migrated_file_of_version_2_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, _ = file_of_version_2(tmp_path / "old")
    for name in ("old", "new"):
        await SqliteDocuments.open(tmp_path / name).aclose()
    assert described(old) == described(tmp_path / "new" / sqlite.FILE)


async def test_a_file_of_version_2_is_read_without_changing_it(tmp_path: Path) -> None:
    path, old = file_of_version_2(tmp_path)
    before = described(path)
    onlooker = SqliteDocuments.open(tmp_path, read_only=True)
    assert same(await all_of(onlooker), old)
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await onlooker.put(entry("c", **FOLLOW_UP))
    documents = SqliteDocuments.open(tmp_path)  # which migrates it under the onlooker's eyes
    await documents.put(entry("c", **FOLLOW_UP))
    assert same(await all_of(onlooker), old)  # a row with more than version 2 is not for it
    await onlooker.aclose()
    again = SqliteDocuments.open(tmp_path, read_only=True)
    assert same(await all_of(again), [*old, entry("c", **FOLLOW_UP)])
    await again.aclose()
    await documents.aclose()
    assert described(path) != before


@pytest.mark.parametrize("damage", ["earlier = '[\"one\"]'", "key_id = 'somebody else'"])
async def test_damage_in_a_row_of_version_2_is_still_noticed(tmp_path: Path, damage: str) -> None:
    path, old = file_of_version_2(tmp_path)
    await SqliteDocuments.open(tmp_path).aclose()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE entries SET {damage} WHERE id = 'b'")
    connection.close()
    documents = SqliteDocuments.open(tmp_path)
    assert same(await all_of(documents), old[:1])


# Version 2: the records that version 3 adds to.

PAIR = Pair(
    at=NOON,
    tenant="harbour",
    event="req-1",
    query="when does it leave?",
    entry_query="when does it land?",
    entry_id=A,
    similarity=0.9375,
    label=0,
    category="fares",
)


async def records_of_version_2(directory: Path) -> Path:
    """Write a file with a pair in it as version 2 did."""
    path = file_of_version_1(directory)
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in (*schema.FROM_VERSION_1, "PRAGMA user_version = 2"):
        connection.execute(statement)
    values = ("req-1", PAIR.query, PAIR.entry_query, "a", 0.9375, 0, "fares", "")
    row = (NOON_US, "harbour", *values)
    connection.execute(
        "INSERT INTO pairs (at_us, tenant, event, query, entry_query, entry_id, similarity, label,"
        " category, comment, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*row, zlib.crc32(repr(row).encode())),
    )
    connection.close()
    return path


async def test_pairs_of_version_2_are_feedback_and_budgets_can_be_kept(tmp_path: Path) -> None:
    path = await records_of_version_2(tmp_path)
    documents = SqliteDocuments.open(tmp_path)
    assert (await documents.records.pairs(limit=5)).items == (PAIR,)
    await documents.records.add_pair(replace(PAIR, event="req-2", source="audit"))
    await documents.records.save_budget("fares", "{}")
    await documents.aclose()
    assert version_in(path) == schema.VERSION
    documents = SqliteDocuments.open(tmp_path)
    pairs = (await documents.records.pairs(limit=5)).items
    assert [pair.source for pair in pairs] == ["audit", "feedback"]
    assert await documents.records.budgets() == {"fares": "{}"}
    await documents.aclose()


async def test_records_of_version_2_are_read_without_changing_them(tmp_path: Path) -> None:
    path = await records_of_version_2(tmp_path)
    before = described(path)
    onlooker = SqliteDocuments.open(tmp_path, read_only=True)
    assert (await onlooker.records.pairs(limit=5)).items == (PAIR,)
    assert await onlooker.records.budgets() == {}
    await onlooker.aclose()
    assert described(path) == before
    assert version_in(path) == 2


async def test_a_budget_that_was_damaged_is_left_out(tmp_path: Path) -> None:
    documents = SqliteDocuments.open(tmp_path)
    for category in ("fares", "tides"):
        await documents.records.save_budget(category, '{"a": 1}')
    await documents.aclose()
    with sqlite3.connect(tmp_path / sqlite.FILE) as connection:
        connection.execute("UPDATE budgets SET state = '{}' WHERE category = 'fares'")
    connection.close()
    documents = SqliteDocuments.open(tmp_path)
    assert list(await documents.records.budgets()) == ["tides"]
    await documents.aclose()


# -- version 3: version 4 adds the journal


async def file_of_version_3(directory: Path) -> Path:
    """Write a file with an entry in it as version 3 did."""
    documents = SqliteDocuments.open(directory)
    await documents.put(entry("a", earlier=("before",)))
    await documents.aclose()
    path = directory / sqlite.FILE
    connection = sqlite3.connect(path, isolation_level=None)
    gone = (*SINCE_VERSION_5, "states", "journal", "journal_state")
    for statement in (*(f"DROP TABLE {name}" for name in gone), "PRAGMA user_version = 3"):
        connection.execute(statement)
    connection.close()
    return path


async def test_a_file_of_version_3_keeps_its_entries_and_begins_a_journal(tmp_path: Path) -> None:
    path = await file_of_version_3(tmp_path)
    documents = SqliteDocuments.open(tmp_path)
    assert (await documents.journal.mark()).position == 0
    assert await documents.get(A) is not None
    await documents.purge([A])
    assert (await documents.journal.mark()).position == 1
    await documents.aclose()
    assert version_in(path) == schema.VERSION


async def test_a_file_of_version_3_is_read_without_changing_it(tmp_path: Path) -> None:
    path = await file_of_version_3(tmp_path)
    onlooker = SqliteDocuments.open(tmp_path, read_only=True)
    assert await onlooker.get(A) is not None
    assert await onlooker.records.states() == {}
    await onlooker.aclose()
    assert version_in(path) == 3


# -- version 4: version 5 adds what is learnt


async def file_of_version_4(directory: Path) -> Path:
    """Write a file with an entry and a budget in it as version 4 did."""
    documents = SqliteDocuments.open(directory)
    await documents.put(entry("a", user="u"))
    await documents.records.save_budget("fares", "{}")
    await documents.aclose()
    path = directory / sqlite.FILE
    connection = sqlite3.connect(path, isolation_level=None)
    gone = (*SINCE_VERSION_5, "states")
    for statement in (*(f"DROP TABLE {name}" for name in gone), "PRAGMA user_version = 4"):
        connection.execute(statement)
    connection.close()
    return path


async def test_a_file_of_version_4_goes_on_and_can_keep_what_is_learnt(tmp_path: Path) -> None:
    path = await file_of_version_4(tmp_path)
    documents = SqliteDocuments.open(tmp_path)
    assert (await documents.journal.mark()).position == 1
    assert same(await all_of(documents), [entry("a", user="u")])
    assert await documents.records.budgets() == {"fares": "{}"}
    assert await documents.records.states() == {}
    await documents.records.save_state("router", "{}")
    await documents.aclose()
    assert version_in(path) == schema.VERSION
    documents = SqliteDocuments.open(tmp_path)
    assert await documents.records.states() == {"router": "{}"}
    await documents.aclose()


async def test_a_migrated_file_of_version_4_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old = await file_of_version_4(tmp_path / "old")
    for name in ("old", "new"):
        await SqliteDocuments.open(tmp_path / name).aclose()
    assert described(old) == described(tmp_path / "new" / sqlite.FILE)


async def test_a_file_of_version_4_is_read_without_changing_it(tmp_path: Path) -> None:
    path = await file_of_version_4(tmp_path)
    before = described(path)
    onlooker = SqliteDocuments.open(tmp_path, read_only=True)
    assert await onlooker.records.budgets() == {"fares": "{}"}
    assert await onlooker.records.states() == {}
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await onlooker.records.save_state("router", "{}")
    await onlooker.aclose()
    assert described(path) == before
    assert version_in(path) == 4


async def test_a_learned_state_that_was_damaged_is_left_out(tmp_path: Path) -> None:
    documents = SqliteDocuments.open(tmp_path)
    for name in ("router", "examples"):
        await documents.records.save_state(name, '{"a": 1}')
    await documents.aclose()
    with sqlite3.connect(tmp_path / sqlite.FILE) as connection:
        connection.execute("UPDATE states SET state = '{}' WHERE name = 'router'")
    connection.close()
    documents = SqliteDocuments.open(tmp_path)
    assert list(await documents.records.states()) == ["examples"]
    await documents.aclose()


# -- version 5: version 6 adds what requests used


async def file_of_version_5(directory: Path) -> Path:
    """Write a file with an entry and a learned state in it as version 5 did."""
    documents = SqliteDocuments.open(directory)
    await documents.put(entry("a", user="u"))
    await documents.records.save_state("router", "{}")
    await documents.aclose()
    path = directory / sqlite.FILE
    connection = sqlite3.connect(path, isolation_level=None)
    gone = (f"DROP TABLE {name}" for name in SINCE_VERSION_5)
    for statement in (*gone, "PRAGMA user_version = 5"):
        connection.execute(statement)
    connection.close()
    return path


DAY = UsageKey(Span.DAY, start_of(Span.DAY, NOON), "harbour", "fares", "m", "miss")
SEEN = UsageRow(DAY, {"requests": 2, "spent": 0.25})
EVER = (NOON - timedelta(days=3), NOON + timedelta(days=3))


async def test_a_file_of_version_5_goes_on_and_can_keep_usage(tmp_path: Path) -> None:
    path = await file_of_version_5(tmp_path)
    documents = SqliteDocuments.open(tmp_path)
    assert same(await all_of(documents), [entry("a", user="u")])
    assert await documents.records.states() == {"router": "{}"}
    await documents.usage.add([SEEN], batch="1")
    await documents.aclose()
    assert version_in(path) == schema.VERSION
    documents = SqliteDocuments.open(tmp_path)
    assert await documents.usage.read(Span.DAY, *EVER) == [SEEN]
    await documents.aclose()


async def test_a_migrated_file_of_version_5_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old = await file_of_version_5(tmp_path / "old")
    for name in ("old", "new"):
        await SqliteDocuments.open(tmp_path / name).aclose()
    assert described(old) == described(tmp_path / "new" / sqlite.FILE)


async def test_a_file_of_version_5_is_read_without_changing_it(tmp_path: Path) -> None:
    path = await file_of_version_5(tmp_path)
    before = described(path)
    onlooker = SqliteDocuments.open(tmp_path, read_only=True)
    assert await onlooker.records.states() == {"router": "{}"}
    assert await onlooker.usage.read(Span.DAY, *EVER) == []
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await onlooker.usage.add([SEEN], batch="1")
    await onlooker.aclose()
    assert described(path) == before
    assert version_in(path) == 5


@pytest.mark.parametrize("damage", ["amounts = '{}'", "tenant = 'airport'", "model = x'00'"])
async def test_a_damaged_row_of_usage_is_left_out_and_begins_anew(
    tmp_path: Path, damage: str
) -> None:
    documents = SqliteDocuments.open(tmp_path)
    await documents.usage.add([SEEN], batch="1")
    with sqlite3.connect(tmp_path / sqlite.FILE) as connection:
        connection.execute(f"UPDATE usage SET {damage}")
    connection.close()
    assert await documents.usage.read(Span.DAY, *EVER) == []
    await documents.usage.add([SEEN], batch="2")
    assert await documents.usage.read(Span.DAY, *EVER) == [SEEN]
    await documents.aclose()
