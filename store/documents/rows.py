"""Entries as SQLite rows. Every row carries checksums, so that damage reads as absence."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from sys import intern
from typing import Any, NamedTuple

import numpy as np

from store.documents.base import Stored
from store.entry import Entry, EntryId, Held, PartitionKey, Vector, size_of

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


class Head(NamedTuple):
    """A row without its vectors and body: the columns of these names, all under the checksum."""

    id: EntryId
    partition: str
    context: str
    tenant: str
    category: str
    route: str
    model: str
    query: str
    tags: str
    created_us: int
    size: int
    content_type: str
    checkpoint: str
    user: str
    classifier: str
    shared_key: str
    approved: int
    cost: float
    answer_id: str
    earlier: str
    key_id: str


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

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
WORTH_COMPRESSING = 200  # bytes; below, zlib's own header eats the gain
STORED_VECTOR = np.dtype("<f4")


def encode(entry: Entry) -> Row:
    """Return the parameters of INSERT. Compresses, so keep it off the event loop."""
    vector = None if entry.vector is None else entry.vector.astype(STORED_VECTOR).tobytes()
    earlier_vectors = blob_of(entry.earlier_vectors)
    head = Head(
        id=entry.id,
        partition=entry.key.partition,
        context=entry.key.context,
        tenant=entry.tenant,
        category=entry.category,
        route=entry.route,
        model=entry.model,
        query=entry.query,
        tags=json.dumps(entry.tags),
        created_us=microseconds(entry.created_at),
        size=size_of(entry),
        content_type=entry.content_type,
        checkpoint=entry.checkpoint,
        user=entry.user,
        classifier=entry.classifier,
        shared_key=entry.shared_key,
        approved=int(entry.approved),
        cost=real(entry.cost),
        answer_id=entry.answer_id,
        earlier=json.dumps(entry.earlier) if entry.earlier else "",
        key_id=entry.key_id,
    )
    body, compressed = entry.body, False
    if len(body) >= WORTH_COMPRESSING:
        packed = zlib.compress(body, 1)
        if len(packed) < len(body):
            body, compressed = packed, True
    stamps = (zlib.crc32(entry.body), compressed, body)
    return (*head, checksum(head, vector, earlier_vectors), vector, earlier_vectors, *stamps)


def decode(row: Row) -> Entry | None:
    """Return the entry of a SELECT_ONE row; None if it is damaged."""
    *columns, checked, vector, earlier_vectors, body_checksum, compressed, body = row
    head = Head._make(columns)
    try:
        if compressed:
            body = zlib.decompress(body)
        sound = checksum(head, vector, earlier_vectors) == checked
        if not sound or zlib.crc32(body) != body_checksum:
            return None
        earlier = texts_of(head.earlier)
        return Entry(
            id=head.id,
            key=PartitionKey(head.partition, head.context),
            tenant=head.tenant,
            category=head.category,
            route=head.route,
            model=head.model,
            query=head.query,
            tags=tuple(json.loads(head.tags)),
            created_at=instant(head.created_us),
            content_type=head.content_type,
            body=body,
            checkpoint=head.checkpoint,
            vector=vector_of(vector),
            user=head.user,
            classifier=head.classifier,
            shared_key=head.shared_key,
            approved=bool(head.approved),
            cost=head.cost,
            answer_id=head.answer_id,
            earlier=earlier,
            earlier_vectors=vectors_of(earlier_vectors, len(earlier)),
            key_id=head.key_id,
        )
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
            earlier = texts_of(head.earlier)
            key = PartitionKey(head.partition, head.context)
            held = Held(
                id=head.id,
                key=keys.setdefault(key, key),
                tenant=intern(head.tenant),
                category=intern(head.category),
                query=head.query,
                created_at=instant(head.created_us),
                size=head.size,
                model=intern(head.model),
                classifier=intern(head.classifier),
                shared_key=head.shared_key,
                approved=bool(head.approved),
                cost=head.cost,
                earlier=earlier,
                earlier_vectors=vectors_of(earlier_vectors, len(earlier)),
            )
            return Stored(held, intern(head.checkpoint), vector_of(vector))
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


def vector_of(blob: bytes | None) -> Vector | None:
    """Return the vector of a blob without copying it."""
    return None if blob is None else np.frombuffer(blob, STORED_VECTOR)


def texts_of(column: str) -> tuple[str, ...]:
    """Return the texts of a column; "" holds none."""
    return tuple(json.loads(column)) if column else ()


def blob_of(vectors: Sequence[Vector | None]) -> bytes | None:
    """Return vectors of one length as a blob, zeros for an absent one; None without any."""
    present = next((vector for vector in vectors if vector is not None), None)
    if present is None:
        return None
    absent = np.zeros_like(present)
    rows = [absent if vector is None else vector for vector in vectors]
    return np.stack(rows).astype(STORED_VECTOR).tobytes()


def vectors_of(blob: bytes | None, count: int) -> tuple[Vector | None, ...]:
    """Return the vectors of a blob without copying them; ValueError if it does not hold so many."""
    if blob is None:
        return ()
    rows = np.frombuffer(blob, STORED_VECTOR).reshape(count, -1)
    return tuple(row if row.any() else None for row in rows)


def real(number: float) -> float:
    """Return the number as SQLite gives it back: a float, and no negative zero."""
    return float(number) + 0.0


def microseconds(time: datetime) -> int:
    """Return the microseconds from 1970, UTC, to an aware time."""
    return (time - EPOCH) // MICROSECOND


def instant(microseconds: int) -> datetime:
    """Return the time that many microseconds after 1970, UTC."""
    return EPOCH + MICROSECOND * microseconds
