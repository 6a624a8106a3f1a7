"""Entries as SQLite rows. Every row carries checksums, so that damage reads as absence."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from sys import intern
from typing import Any

import numpy as np

from store.documents.base import Stored, Summary
from store.entry import Entry, EntryId, Held, PartitionKey, Vector, size_of

# `n` orders entries by when they were put: a replaced entry gets a new one. The body is last,
# so that reading the rest of a long row does not read the body's pages.
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
    checksum INTEGER NOT NULL,
    body_checksum INTEGER NOT NULL,
    compressed INTEGER NOT NULL,
    vector BLOB,
    body BLOB NOT NULL
)
"""
HEAD = (
    "id, partition, context, tenant, category, route, model, query, tags, created_us, size,"
    " content_type, checkpoint, checksum, vector"
)
INSERT = (
    f"INSERT OR REPLACE INTO entries ({HEAD}, body_checksum, compressed, body)"
    f" VALUES ({', '.join('?' * 18)})"
)
SELECT_ONE = f"SELECT {HEAD}, body_checksum, compressed, body FROM entries WHERE id = ?"
SELECT_HEADS = f"SELECT n, {HEAD} FROM entries WHERE n > ? ORDER BY n LIMIT ?"
SUMMARY = "n, id, tenant, category, route, model, query, tags, created_us, size"

Row = tuple[Any, ...]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
WORTH_COMPRESSING = 200  # bytes; below, zlib's own header eats the gain
STORED_VECTOR = np.dtype("<f4")


def encode(entry: Entry) -> Row:
    """Return the parameters of INSERT. Compresses, so keep it off the event loop."""
    vector = None if entry.vector is None else entry.vector.astype(STORED_VECTOR).tobytes()
    head = (
        entry.id,
        entry.key.partition,
        entry.key.context,
        entry.tenant,
        entry.category,
        entry.route,
        entry.model,
        entry.query,
        json.dumps(entry.tags),
        (entry.created_at - EPOCH) // MICROSECOND,
        size_of(entry),
        entry.content_type,
        entry.checkpoint,
    )
    body, compressed = entry.body, False
    if len(body) >= WORTH_COMPRESSING:
        packed = zlib.compress(body, 1)
        if len(packed) < len(body):
            body, compressed = packed, True
    return (*head, checksum(head, vector), vector, zlib.crc32(entry.body), compressed, body)


def decode(row: Row) -> Entry | None:
    """Return the entry of a SELECT_ONE row; None if it is damaged."""
    *head, checked, vector, body_checksum, compressed, body = row
    try:
        if compressed:
            body = zlib.decompress(body)
        if checksum(head, vector) != checked or zlib.crc32(body) != body_checksum:
            return None
        return Entry(
            id=EntryId(head[0]),
            key=PartitionKey(head[1], head[2]),
            tenant=head[3],
            category=head[4],
            route=head[5],
            model=head[6],
            query=head[7],
            tags=tuple(json.loads(head[8])),
            created_at=instant(head[9]),
            content_type=head[11],
            checkpoint=head[12],
            body=body,
            vector=vector_of(vector),
        )
    except (ValueError, TypeError, OverflowError, zlib.error):
        return None


def head_decoder() -> Callable[[Row], Stored | None]:
    """Return a decoder of SELECT_HEADS rows, None for damaged ones; equal keys become one."""
    keys: dict[tuple[str, str], PartitionKey] = {}

    def decode_head(row: Row) -> Stored | None:
        _, *head, checked, vector = row
        try:
            if checksum(head, vector) != checked:
                return None
            key = keys.get((head[1], head[2])) or PartitionKey(head[1], head[2])
            keys[key] = key
            held = Held(
                id=EntryId(head[0]),
                key=key,
                tenant=intern(head[3]),
                category=intern(head[4]),
                query=head[7],
                created_at=instant(head[9]),
                size=head[10],
            )
            return Stored(held, intern(head[12]), vector_of(vector))
        except (ValueError, TypeError, OverflowError):
            return None

    return decode_head


def summary(row: Row) -> Summary:
    """Return the line of a SUMMARY row."""
    _, id, tenant, category, route, model, query, tags, created_us, size = row
    return Summary(
        id=id,
        tenant=tenant,
        category=category,
        route=route,
        model=model,
        query=query,
        tags=tuple(json.loads(tags)),
        created_at=instant(created_us),
        size=size,
    )


def checksum(head: tuple[Any, ...] | list[Any], vector: bytes | None) -> int:
    """Return a checksum over everything but the body."""
    return zlib.crc32(vector or b"", zlib.crc32(repr(tuple(head)).encode()))


def vector_of(blob: bytes | None) -> Vector | None:
    """Return the vector of a blob without copying it."""
    return None if blob is None else np.frombuffer(blob, STORED_VECTOR)


def instant(microseconds: int) -> datetime:
    """Return the time that many microseconds after 1970, UTC."""
    return EPOCH + MICROSECOND * microseconds
