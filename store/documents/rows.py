"""Entries as SQLite rows. Every row carries checksums, so that damage reads as absence."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from store.documents.base import Stored
from store.documents.heads import Head, blob, blob_of, entry_of, head_of, packed, stored_of
from store.entry import Entry, EntryId, PartitionKey

# `n` orders entries by when they were put: a replaced entry gets a new one. The body is last,
# so that reading the rest of a long row does not read the body's pages. In a file that began as
# version 1 or 2 later columns come after it; a row written before then ends with its body.
SCHEMA = """
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
    earlier TEXT NOT NULL DEFAULT '',
    key_id TEXT NOT NULL DEFAULT '',
    checksum INTEGER NOT NULL,
    body_checksum INTEGER NOT NULL,
    compressed INTEGER NOT NULL,
    vector BLOB,
    earlier_vectors BLOB,
    body BLOB NOT NULL
)
"""
ANSWER_INDEX = "CREATE INDEX entries_by_answer ON entries (answer_id) WHERE answer_id <> ''"


IN_VERSION_1 = 13  # so many of Head's columns there were then
IN_VERSION_2 = 19
ADDED_IN_2 = ("", "", "", 0, 0.0, "")  # what a row of version 1 holds in these
ADDED_IN_3 = ("", "")  # and one of version 2; neither has vectors of earlier turns

HEAD = f"{', '.join(Head._fields)}, checksum, vector, earlier_vectors"
INSERT = (
    f"INSERT OR REPLACE INTO entries ({HEAD}, body_checksum, compressed, body)"
    f" VALUES ({', '.join('?' * (len(Head._fields) + 6))})"
)
DELETE = "DELETE FROM entries WHERE id = ?"
DELETE_VERSION = "DELETE FROM entries WHERE id = ? AND created_us = ?"
SELECT_ONE = f"SELECT {HEAD}, body_checksum, compressed, body FROM entries WHERE id = ?"
SELECT_HEAD = f"SELECT {HEAD} FROM entries WHERE id = ?"
SELECT_NUMBERED_HEAD = f"SELECT n, {HEAD} FROM entries WHERE id = ?"
SELECT_HEADS = f"SELECT n, {HEAD} FROM entries WHERE n > ? ORDER BY n LIMIT ?"
# The caller's own first. `<> ''` is what lets SQLite use the index.
FIND_ANSWER = (
    "SELECT id FROM entries WHERE answer_id = ?1 AND answer_id <> ''"
    " AND (tenant = ?2 OR (approved = 1 AND shared_key <> ''))"
    " ORDER BY tenant = ?2 DESC, n DESC LIMIT 1"
)

Row = tuple[Any, ...]
HeadDecoder = Callable[[Row], Stored | None]


def encode(entry: Entry) -> Row:
    """Return the parameters of INSERT. Compresses, so keep it off the event loop."""
    head, vector, earlier_vectors = (
        head_of(entry),
        blob(entry.vector),
        blob_of(entry.earlier_vectors),
    )
    body, compressed = packed(entry.body)
    stamps = (zlib.crc32(entry.body), compressed, body)
    return (*head, checksum(head, vector, earlier_vectors), vector, earlier_vectors, *stamps)


def decode(row: Row) -> Entry | None:
    """Return the entry of a SELECT_ONE row; None if it is damaged."""
    *columns, checked, vector, earlier_vectors, body_checksum, compressed, body = row
    head = Head._make(columns)
    try:
        if checksum(head, vector, earlier_vectors) != checked:
            return None
        body = zlib.decompress(body) if compressed else body
        if zlib.crc32(body) != body_checksum:
            return None
        return entry_of(head, vector, earlier_vectors, body)
    except (ValueError, TypeError, OverflowError, zlib.error):
        return None


def head_decoder() -> HeadDecoder:
    """Return a decoder of SELECT_HEADS rows, None for damaged ones; equal keys become one."""
    keys: dict[tuple[str, str], PartitionKey] = {}

    def decode_head(row: Row) -> Stored | None:
        _, *columns, checked, vector, earlier_vectors = row
        head = Head._make(columns)
        try:
            if checksum(head, vector, earlier_vectors) != checked:
                return None
            key = PartitionKey(head.partition, head.context)
            return stored_of(head, vector, earlier_vectors, keys.setdefault(key, key))
        except (ValueError, TypeError, OverflowError):
            return None

    return decode_head


def approve(connection: sqlite3.Connection, ids: Sequence[EntryId]) -> list[EntryId]:
    """Mark undamaged shared entries as approved; return which of the ids are marked now."""
    marked: list[EntryId] = []
    for id in ids:
        row = connection.execute(SELECT_HEAD, (id,)).fetchone()
        if row is None:
            continue
        *columns, checked, vector, earlier_vectors = row
        head = Head._make(columns)
        if not head.shared_key or checksum(head, vector, earlier_vectors) != checked:
            continue  # a new checksum would make the damage look sound
        renewed = checksum(head._replace(approved=1), vector, earlier_vectors)
        connection.execute(
            "UPDATE entries SET approved = 1, checksum = ? WHERE id = ?", (renewed, id)
        )
        marked.append(id)
    return marked


def checksum(head: Head, vector: bytes | None, earlier_vectors: bytes | None) -> int:
    """Return a checksum over everything but the body.

    A row with nothing in the columns that a version added has the checksum of the version before,
    so that the rows of a migrated file need not be written again.
    """
    covered = tuple(head)
    if covered[IN_VERSION_2:] == ADDED_IN_3 and earlier_vectors is None:
        covered = covered[:IN_VERSION_2]
        if covered[IN_VERSION_1:] == ADDED_IN_2:
            covered = covered[:IN_VERSION_1]
    checked = zlib.crc32(vector or b"", zlib.crc32(repr(covered).encode()))
    return zlib.crc32(earlier_vectors or b"", checked)
