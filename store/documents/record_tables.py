"""Records as SQLite rows: numbered as they are written, and cut to their bound by each write."""

from __future__ import annotations

import sqlite3
import zlib
from dataclasses import dataclass
from typing import Any

from store.documents.heads import instant, microseconds, real
from store.documents.records import BY_ADMIN, AuditRow, Pair, PolicyVersion
from store.documents.rows import Row
from store.entry import EntryId

SCHEMA = (
    """
CREATE TABLE policy_versions (
    n INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    who TEXT NOT NULL,
    source TEXT NOT NULL,
    seed TEXT NOT NULL,
    document TEXT NOT NULL,
    note TEXT NOT NULL,
    checksum INTEGER NOT NULL
)
""",
    """
CREATE TABLE audit (
    n INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    category TEXT,
    before_json TEXT,
    after_json TEXT,
    checksum INTEGER NOT NULL
)
""",
    """
CREATE TABLE pairs (
    n INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    event TEXT NOT NULL,
    query TEXT NOT NULL,
    entry_query TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    similarity REAL NOT NULL,
    label INTEGER NOT NULL,
    category TEXT NOT NULL,
    comment TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    UNIQUE (tenant, event)
)
""",
    # No checksum: to obey a damaged row is safe, to leave it out would serve what must not be.
    """
CREATE TABLE quarantine (
    n INTEGER PRIMARY KEY,
    entry_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    why TEXT NOT NULL,
    UNIQUE (entry_id, tenant)
)
""",
)
# What version 3 adds to them, in a new file as in one of version 2.
IN_VERSION_3 = (
    "ALTER TABLE pairs ADD COLUMN source TEXT NOT NULL DEFAULT 'feedback'",
    """
CREATE TABLE budgets (
    category TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    checksum INTEGER NOT NULL
)
""",
)
# What lets them be read in a file of version 2.
OVER_VERSION_2 = (
    "CREATE TEMP VIEW pairs AS SELECT *, 'feedback' AS source FROM main.pairs",
    IN_VERSION_3[1].replace("CREATE TABLE", "CREATE TEMP TABLE"),
)
# What version 5 adds.
IN_VERSION_5 = (
    """
CREATE TABLE states (
    name TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    checksum INTEGER NOT NULL
)
""",
)
# What lets a file without them be read.
OVER_VERSION_4 = tuple(
    statement.replace("CREATE TABLE", "CREATE TEMP TABLE") for statement in IN_VERSION_5
)
_OF_VERSION_2 = "feedback"  # the source of every pair in it


@dataclass(frozen=True, slots=True)
class Table:
    """A table of SCHEMA."""

    name: str
    columns: str  # all but n
    gaps: bool  # whether rows leave other than oldest first, so that numbers are missing

    def insert(self, connection: sqlite3.Connection, row: Row) -> int:
        """Insert the row, in place of one with its unique columns; return its number."""
        marks = ", ".join("?" * len(row))
        number = connection.execute(
            f"INSERT OR REPLACE INTO {self.name} ({self.columns}) VALUES ({marks})", row
        ).lastrowid
        assert number is not None
        return number

    def add(self, connection: sqlite3.Connection, row: Row, keep: int) -> int:
        """Insert the row, as `insert`; the oldest leave until at most `keep` rows are left."""
        number = self.insert(connection, row)
        if not self.gaps:
            connection.execute(f"DELETE FROM {self.name} WHERE n <= ?", (number - keep,))
        elif self._spans(connection, number) > keep:  # counting takes 1 ms at 100,000 rows
            connection.execute(
                f"DELETE FROM {self.name} WHERE n IN"
                f" (SELECT n FROM {self.name} ORDER BY n LIMIT ?)",
                (self.surplus(connection, keep),),
            )
        return number

    def surplus(self, connection: sqlite3.Connection, keep: int) -> int:
        """Return how many rows there are beyond `keep`."""
        (count,) = connection.execute(f"SELECT count(*) FROM {self.name}").fetchone()
        return max(0, int(count) - keep)

    def newest(self, connection: sqlite3.Connection) -> int:
        """Return the newest row's number; 0 if there is none."""
        (number,) = connection.execute(f"SELECT coalesce(max(n), 0) FROM {self.name}").fetchone()
        return int(number)

    def select(self, condition: str = "n < ?") -> str:
        """Return a query for the rows that meet a condition, newest first, up to a limit."""
        return (
            f"SELECT n, {self.columns} FROM {self.name} WHERE {condition} ORDER BY n DESC LIMIT ?"
        )

    def _spans(self, connection: sqlite3.Connection, newest: int) -> int:
        (oldest,) = connection.execute(f"SELECT min(n) FROM {self.name}").fetchone()
        return int(newest - oldest + 1)


VERSIONS = Table("policy_versions", "at_us, who, source, seed, document, note, checksum", False)
AUDIT = Table("audit", "at_us, who, action, category, before_json, after_json, checksum", False)
PAIRS = Table(
    "pairs",
    "at_us, tenant, event, query, entry_query, entry_id, similarity, label, category, comment,"
    " source, checksum",
    True,
)
QUARANTINE = Table("quarantine", "entry_id, tenant, at_us, why", True)
# Who leaves for a new row: the same tenant's oldest, else the oldest; an admin's for an admin's.
_LEAVING = (
    "SELECT n FROM quarantine WHERE ?1 OR substr(why, 1, ?2) <> ?3"
    " ORDER BY n = ?4, substr(why, 1, ?2) = ?3, tenant <> ?5, n LIMIT ?6"
)


def stop(connection: sqlite3.Connection, row: Row, keep: int) -> list[tuple[EntryId, str]]:
    """Insert a row of QUARANTINE; return the entries and tenants of those that left for it."""
    number = QUARANTINE.insert(connection, row)
    surplus = QUARANTINE.surplus(connection, keep)
    if not surplus:
        return []
    _, tenant, _, why = row
    by_admin = why.startswith(BY_ADMIN)
    chosen = (by_admin, len(BY_ADMIN), BY_ADMIN, number, tenant, surplus)
    return connection.execute(
        f"DELETE FROM quarantine WHERE n IN ({_LEAVING}) RETURNING entry_id, tenant", chosen
    ).fetchall()


def version_row(version: PolicyVersion) -> Row:
    """Return the columns of VERSIONS."""
    return sealed(
        microseconds(version.at),
        version.who,
        version.source,
        version.seed,
        version.document,
        version.note,
    )


def version_of(row: Row) -> PolicyVersion | None:
    """Return what a selected row of VERSIONS says; None if it is damaged."""
    if not intact(row):
        return None
    number, at_us, who, source, seed, document, note, _ = row
    return PolicyVersion(
        number=number,
        at=instant(at_us),
        who=who,
        source=source,
        seed=seed,
        document=document,
        note=note,
    )


def audit_row(row: AuditRow) -> Row:
    """Return the columns of AUDIT."""
    return sealed(microseconds(row.at), row.who, row.action, row.category, row.before, row.after)


def audit_of(row: Row) -> AuditRow | None:
    """Return what a selected row of AUDIT says; None if it is damaged."""
    if not intact(row):
        return None
    _, at_us, who, action, category, before, after, _ = row
    return AuditRow(
        at=instant(at_us), who=who, action=action, category=category, before=before, after=after
    )


def pair_row(pair: Pair) -> Row:
    """Return the columns of PAIRS."""
    values = (
        microseconds(pair.at),
        pair.tenant,
        pair.event,
        pair.query,
        pair.entry_query,
        pair.entry_id,
        real(pair.similarity),
        int(pair.label),
        pair.category,
        pair.comment,
        pair.source,
    )
    return (*values, _pair_checksum(values))


def pair_of(row: Row) -> Pair | None:
    """Return what a selected row of PAIRS says; None if it is damaged."""
    _, *values, checksum = row
    if checksum != _pair_checksum(tuple(values)):
        return None
    at_us, tenant, event, query, entry_query, entry_id, similarity, label, *rest = values
    category, comment, source = rest
    return Pair(
        at=instant(at_us),
        tenant=tenant,
        event=event,
        query=query,
        entry_query=entry_query,
        entry_id=EntryId(entry_id),
        similarity=similarity,
        label=label,
        category=category,
        comment=comment,
        source=source,
    )


def _pair_checksum(values: Row) -> int:
    """Return the checksum; that of version 2, so that its rows need not be written again."""
    covered = values[:-1] if values[-1] == _OF_VERSION_2 else values
    return zlib.crc32(repr(covered).encode())


SAVE_BUDGET = "INSERT OR REPLACE INTO budgets (category, state, checksum) VALUES (?, ?, ?)"
DROP_BUDGET = "DELETE FROM budgets WHERE category = ?"
SELECT_BUDGETS = "SELECT rowid, category, state, checksum FROM budgets"
SAVE_STATE = "INSERT OR REPLACE INTO states (name, state, checksum) VALUES (?, ?, ?)"
DROP_STATE = "DELETE FROM states WHERE name = ?"
SELECT_STATES = "SELECT rowid, name, state, checksum FROM states"


def sealed(*values: Any) -> Row:
    """Return the values with their checksum."""
    return (*values, zlib.crc32(repr(values).encode()))


def intact(row: Row) -> bool:
    """Whether a selected row holds what was sealed."""
    return row[1:] == sealed(*row[1:-1])
