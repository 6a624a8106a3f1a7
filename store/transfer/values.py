"""Entries, policies, pairs and quarantine as JSON objects, and back.

An object says by its `kind` what it is. What comes back equals what went in, to the microsecond
and the last bit of a vector.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

import numpy as np

from store.documents.records import Pair, PairSource, PolicyVersion, Source
from store.entry import Entry, EntryId, PartitionKey, Vector, check_vectors

Data = dict[str, Any]
_STORED = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Carried:
    """An entry on its way."""

    entry: Entry  # without vectors where the file has none
    by_meaning: bool  # whether it was found by meaning where it came from


class Stop(NamedTuple):
    """An entry that must not serve a tenant; "" is everybody."""

    entry_id: EntryId
    tenant: str


Value = Carried | PolicyVersion | Pair | Stop


def entry_data(entry: Entry, *, vectors: bool) -> Data:
    """Return the object of an entry, with its vectors or without."""
    data: Data = {
        "kind": "entry",
        "id": entry.id,
        "partition": entry.key.partition,
        "context": entry.key.context,
        "tenant": entry.tenant,
        "user": entry.user,
        "category": entry.category,
        "classifier": entry.classifier,
        "route": entry.route,
        "model": entry.model,
        "query": entry.query,
        "earlier": entry.earlier,
        "tags": entry.tags,
        "created_at": entry.created_at.isoformat(),
        "content_type": entry.content_type,
        "shared_key": entry.shared_key,
        "approved": entry.approved,
        "cost": entry.cost,
        "answer_id": entry.answer_id,
        "key_id": entry.key_id,
        "checkpoint": entry.checkpoint,
        "by_meaning": entry.vector is not None,
    }
    if vectors and entry.vector is not None:
        data["vector"] = _coded(entry.vector)
        if entry.earlier_vectors:
            data["earlier_vectors"] = [
                None if vector is None else _coded(vector) for vector in entry.earlier_vectors
            ]
    try:
        data["body"] = entry.body.decode()
    except UnicodeDecodeError:
        data["body_base64"] = b64encode(entry.body).decode()
    return data


def policy_data(version: PolicyVersion) -> Data:
    """Return the object of a policy version; ValueError if its document is no JSON."""
    return {
        "kind": "policy",
        "number": version.number,
        "at": version.at.isoformat(),
        "who": version.who,
        "source": version.source,
        "seed": version.seed,
        "note": version.note,
        "document": json.loads(version.document),
    }


def pair_data(pair: Pair) -> Data:
    """Return the object of a labelled pair."""
    return {
        "kind": "pair",
        "at": pair.at.isoformat(),
        "tenant": pair.tenant,
        "event": pair.event,
        "query": pair.query,
        "entry_query": pair.entry_query,
        "entry_id": pair.entry_id,
        "similarity": pair.similarity,
        "label": pair.label,
        "category": pair.category,
        "comment": pair.comment,
        "source": pair.source,
    }


def stop_data(stop: Stop) -> Data:
    """Return the object of a quarantine."""
    return {"kind": "quarantine", "entry_id": stop.entry_id, "tenant": stop.tenant}


def value_of(data: Mapping[str, Any]) -> Value:
    """Return what an object holds; ValueError that names key, value and what is allowed."""
    fields = _Fields(data)
    match data.get("kind"):
        case "entry":
            return _entry(fields)
        case "policy":
            return PolicyVersion(
                number=fields.whole("number"),
                at=fields.time("at"),
                who=fields.text("who"),
                source=fields.one_of("source", get_args(Source)),
                seed=fields.text("seed"),
                note=fields.text("note"),
                document=json.dumps(data.get("document")),
            )
        case "pair":
            return _pair(fields)
        case "quarantine":
            return Stop(EntryId(fields.text("entry_id")), fields.text("tenant"))
    raise fields.refused("kind", "entry, policy, pair or quarantine")


def _entry(fields: _Fields) -> Carried:
    by_meaning = fields.flag("by_meaning")
    earlier = fields.texts("earlier")
    vector = fields.vector("vector") if by_meaning and fields.has("vector") else None
    past: tuple[Vector | None, ...] = ()
    if vector is not None and fields.has("earlier_vectors"):
        past = fields.vectors("earlier_vectors", len(earlier))
        try:
            check_vectors(past, len(vector))
        except ValueError as error:
            raise ValueError(f"earlier_vectors: {error}") from None
    entry = Entry(
        id=EntryId(fields.text("id")),
        key=PartitionKey(fields.text("partition"), fields.text("context")),
        tenant=fields.text("tenant"),
        user=fields.text("user"),
        category=fields.text("category"),
        classifier=fields.text("classifier"),
        route=fields.text("route"),
        model=fields.text("model"),
        query=fields.text("query"),
        earlier=earlier,
        tags=fields.texts("tags"),
        created_at=fields.time("created_at"),
        content_type=fields.text("content_type"),
        shared_key=fields.text("shared_key"),
        approved=fields.flag("approved"),
        cost=fields.number("cost"),
        answer_id=fields.text("answer_id"),
        key_id=fields.text("key_id"),
        checkpoint=fields.text("checkpoint"),
        body=fields.text("body").encode() if fields.has("body") else fields.raw("body_base64"),
        vector=vector,
        earlier_vectors=past,
    )
    return Carried(entry, by_meaning)


def _pair(fields: _Fields) -> Pair:
    label = fields.whole("label")
    if label not in (0, 1):
        raise fields.refused("label", "0 or 1")
    return Pair(
        at=fields.time("at"),
        tenant=fields.text("tenant"),
        event=fields.text("event"),
        query=fields.text("query"),
        entry_query=fields.text("entry_query"),
        entry_id=EntryId(fields.text("entry_id")),
        similarity=fields.number("similarity"),
        label=label,
        category=fields.text("category"),
        comment=fields.text("comment"),
        source=fields.one_of("source", get_args(PairSource)),
    )


class _Fields:
    """Reads the fields of an object; each method raises ValueError for what it does not allow."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def has(self, key: str) -> bool:
        return key in self._data

    def refused(self, key: str, allowed: str) -> ValueError:
        shown = repr(self._data[key])[:60] if key in self._data else "nothing"
        return ValueError(f"{key}: {shown} is not allowed; allowed: {allowed}")

    def text(self, key: str) -> str:
        value = self._data.get(key)
        if not isinstance(value, str) or not _whole_text(value):
            raise self.refused(key, "a text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._data.get(key)
        if not isinstance(value, list) or not all(
            isinstance(text, str) and _whole_text(text) for text in value
        ):
            raise self.refused(key, "a list of texts")
        return tuple(value)

    def flag(self, key: str) -> bool:
        value = self._data.get(key)
        if not isinstance(value, bool):
            raise self.refused(key, "true or false")
        return value

    def whole(self, key: str) -> int:
        value = self._data.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refused(key, "a whole number")
        return value

    def number(self, key: str) -> float:
        value = self._data.get(key)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not math.isfinite(value)
        ):
            raise self.refused(key, "a number")
        return float(value)

    def time(self, key: str) -> datetime:
        try:
            value = datetime.fromisoformat(self.text(key))
        except ValueError:
            raise self.refused(key, "a time as in 2026-11-24T12:00:00+00:00") from None
        if value.tzinfo is None:
            raise self.refused(key, "a time with its offset from UTC")
        return value.astimezone(UTC)

    def one_of(self, key: str, allowed: Sequence[str]) -> Any:
        if self._data.get(key) not in allowed:
            raise self.refused(key, ", ".join(allowed))
        return self._data[key]

    def raw(self, key: str) -> bytes:
        try:
            return b64decode(self.text(key), validate=True)
        except ValueError:
            raise self.refused(key, "base64") from None

    def vector(self, key: str) -> Vector:
        return _vector(key, self._data[key])

    def vectors(self, key: str, count: int) -> tuple[Vector | None, ...]:
        value = self._data[key]
        if not isinstance(value, list) or len(value) != count:
            raise self.refused(key, f"a list of {count}, one an earlier turn")
        return tuple(None if one is None else _vector(key, one) for one in value)


def _whole_text(text: str) -> bool:
    """Whether no half of a surrogate pair stands alone in it: such a text cannot be stored."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _coded(vector: Vector) -> str:
    return b64encode(vector.astype(_STORED).tobytes()).decode()


def _vector(key: str, coded: object) -> Vector:
    """Return a vector of unit length, read-only; a server would not start with another."""
    try:
        if not isinstance(coded, str):
            raise ValueError("a text is wanted")
        vector = np.frombuffer(b64decode(coded, validate=True), _STORED)
        check_vectors((vector,), len(vector))
    except ValueError as error:
        raise ValueError(
            f"{key}: {error}; allowed: base64 of little-endian float32, of unit length"
        ) from None
    return vector
