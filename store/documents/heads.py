"""An entry as plain values: what a store writes of it, and reads it back from."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from sys import intern
from typing import NamedTuple

import numpy as np

from store.documents.base import Stored
from store.entry import Entry, EntryId, Held, PartitionKey, Vector, size_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
WORTH_COMPRESSING = 200  # bytes; below, zlib's own header eats the gain
STORED_VECTOR = np.dtype("<f4")


class Head(NamedTuple):
    """What is stored of an entry besides vectors and body; SQLite's columns have these names."""

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


def head_of(entry: Entry) -> Head:
    """Return what is kept of an entry besides its vectors and body."""
    return Head(
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


def entry_of(head: Head, vector: bytes | None, earlier_vectors: bytes | None, body: bytes) -> Entry:
    """Return the entry; ValueError, TypeError or OverflowError for a head that is none."""
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


def stored_of(
    head: Head, vector: bytes | None, earlier_vectors: bytes | None, key: PartitionKey
) -> Stored:
    """Return the entry without its body, under the head's key; raises as entry_of."""
    earlier = texts_of(head.earlier)
    held = Held(
        id=head.id,
        key=key,
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
        user=intern(head.user),
    )
    past = vectors_of(earlier_vectors, len(earlier))
    return Stored(held, intern(head.checkpoint), vector_of(vector), past)


def packed(body: bytes) -> tuple[bytes, bool]:
    """Return the body, compressed where that makes it smaller, and whether it is."""
    if len(body) >= WORTH_COMPRESSING:
        small = zlib.compress(body, 1)
        if len(small) < len(body):
            return small, True
    return body, False


def blob(vector: Vector | None) -> bytes | None:
    """Return the vector as a blob."""
    return None if vector is None else vector.astype(STORED_VECTOR).tobytes()


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
