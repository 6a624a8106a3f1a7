from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.documents import record_tables as tables
from store.documents.base import NEWEST
from store.documents.record_tables import Table
from store.documents.records import AuditRow, Pair, PolicyVersion
from store.documents.rows import Row
from store.entry import EntryId
from tests.entries import NOON

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


def opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in (*tables.SCHEMA, *tables.IN_VERSION_3):
        connection.execute(statement)
    return connection


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = opened()
    yield connection
    connection.close()


def read_back(table: Table, row: Row) -> Row:
    connection = opened()
    table.add(connection, row, 1)
    found: Row = connection.execute(table.select(), (NEWEST, 1)).fetchone()
    connection.close()
    return found


@given(st.builds(PolicyVersion, at=TIMES, who=TEXT, seed=TEXT, document=TEXT, note=TEXT))
def test_any_version_survives_its_table(version: PolicyVersion) -> None:
    found = tables.version_of(read_back(tables.VERSIONS, tables.version_row(version)))
    assert found is not None
    assert found.number == 1
    for field in ("at", "who", "source", "seed", "document", "note"):
        assert getattr(found, field) == getattr(version, field)


OPTIONAL = st.none() | TEXT


@given(
    st.builds(
        AuditRow,
        at=TIMES,
        who=TEXT,
        action=TEXT,
        category=OPTIONAL,
        before=OPTIONAL,
        after=OPTIONAL,
    )
)
def test_any_audit_row_survives_its_table(row: AuditRow) -> None:
    assert tables.audit_of(read_back(tables.AUDIT, tables.audit_row(row))) == row


@given(
    st.builds(
        Pair,
        at=TIMES,
        tenant=TEXT,
        event=TEXT,
        query=TEXT,
        entry_query=TEXT,
        entry_id=TEXT.map(EntryId),
        similarity=st.floats(-1, 1),
        label=st.integers(0, 1),
        category=TEXT,
        comment=TEXT,
        source=st.sampled_from(["feedback", "audit", "near-miss"]),
    )
)
def test_any_pair_survives_its_table(pair: Pair) -> None:
    assert tables.pair_of(read_back(tables.PAIRS, tables.pair_row(pair))) == pair


PAIR = Pair(
    at=NOON,
    tenant="harbour",
    event="1",
    query="when?",
    entry_query="where?",
    entry_id=EntryId("a"),
    similarity=0.5,
    label=0,
    category="fares",
)


@pytest.mark.parametrize(
    "damage",
    ["label = 1", "similarity = 0.9", "tenant = 'airport'", "query = x'00'", "at_us = 'noon'"]
    + ["source = 'audit'", "source = 'x'"],
)
def test_a_damaged_row_is_noticed(connection: sqlite3.Connection, damage: str) -> None:
    tables.PAIRS.add(connection, tables.pair_row(PAIR), 9)
    connection.execute(f"UPDATE pairs SET {damage}")
    row = connection.execute(tables.PAIRS.select(), (NEWEST, 1)).fetchone()
    assert tables.pair_of(row) is None


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "drop"]), st.integers(0, 9)), min_size=1, max_size=60
)


@given(steps=STEPS, keep=st.integers(1, 6))
def test_a_table_with_gaps_holds_exactly_the_newest_of_what_was_not_dropped(
    steps: list[tuple[str, int]], keep: int
) -> None:
    connection, model = opened(), list[str]()
    for step, number in steps:
        id = str(number)
        if step == "add":
            tables.QUARANTINE.add(connection, (id, "", 0, "wrong"), keep)
            model = [*(other for other in model if other != id), id][-keep:]
        else:
            connection.execute("DELETE FROM quarantine WHERE entry_id = ?", (id,))
            model = [other for other in model if other != id]
        found = connection.execute("SELECT entry_id FROM quarantine ORDER BY n").fetchall()
        assert [id for (id,) in found] == model
    connection.close()


@given(count=st.integers(1, 30), keep=st.integers(1, 6))
def test_a_table_without_gaps_holds_exactly_the_newest(count: int, keep: int) -> None:
    connection = opened()
    for number in range(1, count + 1):
        row = tables.audit_row(AuditRow(at=NOON, who="ops", action=str(number)))
        assert tables.AUDIT.add(connection, row, keep) == number
    found = connection.execute("SELECT n FROM audit ORDER BY n").fetchall()
    assert [n for (n,) in found] == list(range(max(1, count - keep + 1), count + 1))
    connection.close()
