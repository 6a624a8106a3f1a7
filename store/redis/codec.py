"""Entries and changes as the bytes that Redis keeps. What is damaged decodes to None."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any

import orjson

from store.documents.base import Stored
from store.documents.heads import (
    Head,
    blob,
    blob_of,
    entry_of,
    head_of,
    instant,
    microseconds,
    packed,
    real,
    stored_of,
)
from store.entry import Entry, EntryId, kept_key
from store.journal import (
    Approved,
    Change,
    Complained,
    Learnt,
    PolicyAdded,
    Purging,
    Put,
    Released,
    Removed,
    Stopped,
    TenantForgotten,
)

Fields = dict[bytes, bytes]
Answer = Sequence[bytes | None]  # what HMGET gave

STORED_FIELDS = (b"head", b"checksum", b"vector", b"earlier_vectors")
ENTRY_FIELDS = (*STORED_FIELDS, b"body", b"compressed", b"body_checksum")
COST, CREATED = Head._fields.index("cost"), Head._fields.index("created_us")
SEQUENCE_BITS = 20  # of a position: so many records within one millisecond, and more


def encode_entry(entry: Entry) -> Fields:
    """Return the fields of an entry's hash, all of ENTRY_FIELDS; b"" stands for no vector.

    Compresses, so keep large bodies off the event loop. Raises ValueError or TypeError for texts
    that are no Unicode.
    """
    body, compressed = packed(entry.body)
    fields = _stored(head_of(entry), blob(entry.vector), blob_of(entry.earlier_vectors))
    for absent in STORED_FIELDS[2:]:
        fields.setdefault(absent, b"")  # so that what is replaced leaves nothing behind
    fields[b"body"] = body
    fields[b"compressed"] = b"1" if compressed else b"0"
    fields[b"body_checksum"] = b"%d" % zlib.crc32(entry.body)
    return fields


def decode_entry(answer: Answer) -> Entry | None:
    """Return the entry of ENTRY_FIELDS; None if it is damaged or not there."""
    blob, checked, vector, earlier, body, compressed, body_checked = answer
    if blob is None or body is None or not _sound(blob, checked, vector, earlier):
        return None
    try:
        if compressed == b"1":
            body = zlib.decompress(body)
        if b"%d" % zlib.crc32(body) != body_checked:
            return None
        return entry_of(head_from(blob), vector or None, earlier or None, body)
    except (ValueError, TypeError, OverflowError, zlib.error):
        return None


def decode_stored(answer: Answer) -> Stored | None:
    """Return the entry of STORED_FIELDS without its body; None if it is damaged or not there."""
    blob, checked, vector, earlier = answer
    if blob is None or not _sound(blob, checked, vector, earlier):
        return None
    try:
        head = head_from(blob)
        key = kept_key(head.partition, head.context)
        return stored_of(head, vector or None, earlier or None, key)
    except (ValueError, TypeError, OverflowError):
        return None


def decode_entry_head(answer: Answer) -> Head | None:
    """Return the head of STORED_FIELDS; None if it is damaged or not there."""
    blob, checked, vector, earlier = answer
    if blob is None or not _sound(blob, checked, vector, earlier):
        return None
    return head_from(blob)


def approve(answer: Answer) -> tuple[bytes, bytes] | None:
    """Return the head and checksum of STORED_FIELDS once approved.

    None for entries of another scope, damaged ones and none at all.
    """
    blob, checked, vector, earlier = answer
    if blob is None or not _sound(blob, checked, vector, earlier):
        return None  # a new checksum would make the damage look sound
    head = head_from(blob)
    if not head.shared_key:
        return None
    fields = _stored(head._replace(approved=1), vector or None, earlier or None)
    return fields[b"head"], fields[b"checksum"]


def head_from(blob: bytes) -> Head:
    """Return the head of its stored form; ValueError or TypeError if it is none."""
    head = Head._make(orjson.loads(blob))
    return head._replace(cost=float(head.cost)) if type(head.cost) is not float else head


def encode_change(change: Change) -> Fields:
    """Return the fields of a record. Raises as encode_entry."""
    match change:
        case Put(stored):
            past = blob_of(stored.earlier_vectors)
            return put_fields(_stored(_head_of_stored(stored), blob(stored.vector), past))
        case Removed(ids, purged, created, stored):
            fields = {b"kind": b"removed", b"ids": orjson.dumps(ids), b"purged": b"%d" % purged}
            if created:
                fields[b"created"] = orjson.dumps([microseconds(at) for at in created])
            if stored:
                fields[b"stored"] = orjson.dumps([microseconds(at) for at in stored])
            return fields
        case Purging(data):
            return {b"kind": b"purging", b"data": data}
        case Approved(ids):
            return {b"kind": b"approved", b"ids": orjson.dumps(ids)}
        case Stopped(id, tenant):
            return {b"kind": b"stopped", b"id": id.encode(), b"tenant": tenant.encode()}
        case Released(id, tenant):
            return {b"kind": b"released", b"id": id.encode(), b"tenant": tenant.encode()}
        case TenantForgotten(tenant):
            return {b"kind": b"forgotten", b"tenant": tenant.encode()}
        case PolicyAdded(number):
            return {b"kind": b"policy", b"number": b"%d" % number}
        case Complained(category):
            return {b"kind": b"complained", b"category": category.encode()}
        case Learnt(data):
            return {b"kind": b"learnt", b"data": data}


def put_fields(entry: Fields) -> Fields:
    """Return the record of a put, from the fields of the entry's hash."""
    return {b"kind": b"put"} | {name: entry[name] for name in STORED_FIELDS if entry.get(name)}


def decode_change(fields: Mapping[bytes, bytes]) -> Change | None:
    """Return the change of a record's fields; None if it is damaged or of an unknown kind.

    Fields that this version does not know are left aside.
    """
    decode = _DECODERS.get(fields.get(b"kind", b""))
    try:
        return None if decode is None else decode(fields)
    except (KeyError, ValueError, TypeError):
        return None


def position_of(stream_id: bytes) -> int:
    """Return a record's place as one number, in the order of stream ids.

    Raises ValueError for what is no stream id.
    """
    milliseconds, _, sequence = stream_id.partition(b"-")
    number = int(sequence)
    if number >> SEQUENCE_BITS:
        raise ValueError(f"stream id {stream_id!r} has too large a sequence")
    return int(milliseconds) << SEQUENCE_BITS | number


def told_at(position: int) -> datetime:
    """Return the last moment, by the server's clock, at which a record there was made."""
    return instant(((position >> SEQUENCE_BITS) + 1) * 1000 - 1)


def stream_id(position: int) -> bytes:
    """Return the stream id at a position."""
    return b"%d-%d" % (position >> SEQUENCE_BITS, position & ((1 << SEQUENCE_BITS) - 1))


def _stored(head: Head, vector: bytes | None, earlier: bytes | None) -> Fields:
    values: list[Any] = list(head)
    if not isfinite(head.cost):  # JSON has no such number
        values[COST] = str(head.cost)
    blob = orjson.dumps(values)
    fields = {b"head": blob, b"checksum": b"%d" % _checksum(blob, vector, earlier)}
    if vector:
        fields[b"vector"] = vector
    if earlier:
        fields[b"earlier_vectors"] = earlier
    return fields


def _checksum(head: bytes, vector: bytes | None, earlier: bytes | None) -> int:
    return zlib.crc32(earlier or b"", zlib.crc32(vector or b"", zlib.crc32(head)))


def _sound(head: bytes, checked: bytes | None, vector: bytes | None, earlier: bytes | None) -> bool:
    return b"%d" % _checksum(head, vector, earlier) == checked


def _head_of_stored(stored: Stored) -> Head:
    held = stored.held
    return Head(
        id=held.id,
        partition=held.key.partition,
        context=held.key.context,
        tenant=held.tenant,
        category=held.category,
        route="",
        model=held.model,
        query=held.query,
        tags="[]",
        created_us=microseconds(held.created_at),
        size=held.size,
        content_type="",
        checkpoint=stored.checkpoint,
        user=held.user,
        classifier=held.classifier,
        shared_key=held.shared_key,
        approved=int(held.approved),
        cost=real(held.cost),
        answer_id="",
        earlier=orjson.dumps(held.earlier).decode() if held.earlier else "",
        key_id="",
    )


def _put(fields: Mapping[bytes, bytes]) -> Put | None:
    stored = decode_stored([fields.get(name) for name in STORED_FIELDS])
    return None if stored is None else Put(stored)


def _ids(fields: Mapping[bytes, bytes]) -> tuple[EntryId, ...]:
    return tuple(orjson.loads(fields[b"ids"]))


def _removed(fields: Mapping[bytes, bytes]) -> Removed:
    created, stored = _times(fields, b"created"), _times(fields, b"stored")
    return Removed(_ids(fields), fields[b"purged"] == b"1", created, stored)


def _times(fields: Mapping[bytes, bytes], name: bytes) -> tuple[datetime, ...]:
    return tuple(instant(at) for at in orjson.loads(fields.get(name, b"[]")))


def _id(fields: Mapping[bytes, bytes]) -> EntryId:
    return EntryId(fields[b"id"].decode())


_DECODERS: dict[bytes, Callable[[Mapping[bytes, bytes]], Change | None]] = {
    b"put": _put,
    b"removed": _removed,
    b"purging": lambda f: Purging(f[b"data"]),
    b"approved": lambda f: Approved(_ids(f)),
    b"stopped": lambda f: Stopped(_id(f), f[b"tenant"].decode()),
    b"released": lambda f: Released(_id(f), f[b"tenant"].decode()),
    b"forgotten": lambda f: TenantForgotten(f[b"tenant"].decode()),
    b"policy": lambda f: PolicyAdded(int(f[b"number"])),
    b"complained": lambda f: Complained(f[b"category"].decode()),
    b"learnt": lambda f: Learnt(f[b"data"]),
}
