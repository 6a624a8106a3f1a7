"""The SQLite file: its tables, and how a file of an earlier version becomes one of this."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path

from store.documents import record_tables, rows, sqlite_journal, sqlite_usage
from store.errors import StoreUnavailable

VERSION = 6  # of SCHEMA, kept in PRAGMA user_version
SCHEMA = (
    rows.SCHEMA,
    rows.ANSWER_INDEX,
    *record_tables.SCHEMA,
    *record_tables.IN_VERSION_3,
    *sqlite_journal.SCHEMA,
    *record_tables.IN_VERSION_5,
    *sqlite_usage.SCHEMA,
)

# What turns a file of version 1 into one of version 2. The first six cost nothing: SQLite notes
# the column, and reads its default from every row that was written before. The checksums of such
# rows hold too (rows.checksum).
FROM_VERSION_1 = (
    "ALTER TABLE entries ADD COLUMN user TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE entries ADD COLUMN classifier TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE entries ADD COLUMN shared_key TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE entries ADD COLUMN approved INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE entries ADD COLUMN cost REAL NOT NULL DEFAULT 0.0",
    "ALTER TABLE entries ADD COLUMN answer_id TEXT NOT NULL DEFAULT ''",
    rows.ANSWER_INDEX,
    *record_tables.SCHEMA,
)
# And what turns one of version 2 into one of version 3, at no cost either.
FROM_VERSION_2 = (
    "ALTER TABLE entries ADD COLUMN earlier TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE entries ADD COLUMN key_id TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE entries ADD COLUMN earlier_vectors BLOB",
    *record_tables.IN_VERSION_3,
)
# Version 4 brings the journal, which begins empty, version 5 what is learnt, and version 6 usage.
STEPS = {  # each to the next version
    1: FROM_VERSION_1,
    2: FROM_VERSION_2,
    3: sqlite_journal.SCHEMA,
    4: record_tables.IN_VERSION_5,
    5: sqlite_usage.SCHEMA,
}
# What lets a file of an earlier version be read as it is, by a connection that may not change it.
OVER_VERSION_1 = (
    "CREATE TEMP VIEW entries AS SELECT n, id, partition, context, tenant, category, route, model,"
    " query, tags, created_us, size, content_type, checkpoint, checksum, body_checksum, compressed,"
    " vector, body, '' AS user, '' AS classifier, '' AS shared_key, 0 AS approved, 0.0 AS cost,"
    " '' AS answer_id, '' AS earlier, '' AS key_id, NULL AS earlier_vectors"
    " FROM main.entries",
    *(
        statement.replace("CREATE TABLE", "CREATE TEMP TABLE")
        for statement in (*record_tables.SCHEMA, *record_tables.IN_VERSION_3)
    ),
    *record_tables.OVER_VERSION_4,
    *sqlite_usage.OVER_VERSION_5,
    "PRAGMA query_only = ON",
)
OVER_VERSION_2 = (
    "CREATE TEMP VIEW entries AS SELECT n, id, partition, context, tenant, category, route, model,"
    " query, tags, created_us, size, content_type, checkpoint, checksum, body_checksum, compressed,"
    " vector, body, user, classifier, shared_key, approved, cost, answer_id, '' AS earlier,"
    " '' AS key_id, NULL AS earlier_vectors FROM main.entries",
    *record_tables.OVER_VERSION_2,
    *record_tables.OVER_VERSION_4,
    *sqlite_usage.OVER_VERSION_5,
    "PRAGMA query_only = ON",
)
OVER_VERSION_5 = (*sqlite_usage.OVER_VERSION_5, "PRAGMA query_only = ON")
OVER_VERSION_4 = (*record_tables.OVER_VERSION_4, *OVER_VERSION_5)
# Whoever only reads needs no journal.
OVER = {
    1: OVER_VERSION_1,
    2: OVER_VERSION_2,
    3: OVER_VERSION_4,
    4: OVER_VERSION_4,
    5: OVER_VERSION_5,
}


def connect_to(path: Path, busy_seconds: float, *, read_only: bool) -> sqlite3.Connection:
    """Open a connection without touching the file's schema; the file must exist."""
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
        if read_only:
            for statement in OVER.get(version_of(connection), ()):
                connection.execute(statement)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def text(raw: bytes) -> str:
    """Decode a column; what damage made undecodable fails its checksum instead of the query."""
    return raw.decode(errors="replace")


def prepare(path: Path, busy_seconds: float, *, read_only: bool) -> None:
    """Make the file one of this version, creating it if need be; read-only, leave it alone.

    Raises StoreUnavailable for a file we cannot use, or one that a later version wrote.
    """
    try:
        if not read_only:
            path.touch(mode=0o600)
        connection = connect_to(path, busy_seconds, read_only=read_only)
        try:
            version = version_of(connection)
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if version == 0 and tables == 0 and not read_only:
                connection.execute("PRAGMA page_size = 8192")
                connection.execute("PRAGMA journal_mode = WAL")
                change(connection, SCHEMA)
            elif version in STEPS:
                if not read_only:
                    steps = [STEPS[each] for each in range(version, VERSION)]
                    change(connection, tuple(itertools.chain(*steps)))
            elif version != VERSION:
                raise StoreUnavailable(
                    f"{path} has schema version {version}; this Nearhit reads versions 1 to"
                    f" {VERSION}. Use the Nearhit that wrote it, or another data_dir"
                )
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"{path} cannot be used: {error}") from error


def version_of(connection: sqlite3.Connection) -> int:
    """Return the schema version of the file; 0 for one that we did not write."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def change(connection: sqlite3.Connection, statements: tuple[str, ...]) -> None:
    """Bring the file to VERSION in one transaction; closing the connection early undoes it."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in statements:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
