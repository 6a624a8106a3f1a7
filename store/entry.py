"""What is stored, and what a search finds. Values only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, NewType

import numpy as np
import numpy.typing as npt
from msgspec import Struct, structs

EntryId = NewType("EntryId", str)  # the exact key's first 32 hex digits
Vector = npt.NDArray[np.float32]  # shape (d,), unit length

OVERHEAD = 512  # bytes an entry costs in memory and on disk besides its texts and vector
KEYS_KEPT = 10_000  # partition keys of which the next entry gets the same object
UNIT_TOLERANCE = 1e-3  # of the squared length; float32 keeps it far better


class PartitionKey(NamedTuple):
    """Which vectors may be compared at all: everything that must match exactly."""

    partition: str  # digest of the request without its last user text and earlier turns
    context: str  # digest of the earlier turns without what their users said; "" if there are none


@lru_cache(KEYS_KEPT)
def kept_key(partition: str, context: str) -> PartitionKey:
    """Return a key that is one object however many entries have it: 300 bytes less for each."""
    return PartitionKey(partition, context)


class Version(NamedTuple):
    """One of the answers that an id has had."""

    id: EntryId
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One stored answer with what it answers."""

    id: EntryId
    key: PartitionKey
    tenant: str
    category: str
    route: str  # as in "/v1/chat/completions"
    model: str  # as the client asked for it
    query: str  # the last user text; "" when the request had none
    tags: tuple[str, ...]
    created_at: datetime  # aware, UTC
    content_type: str
    body: bytes  # the answer's JSON form, uncompressed
    checkpoint: str  # which encoder made the vector
    vector: Vector | None  # None: found by its exact key only
    user: str = ""  # digest of who asked: a named end user, else a key, else the tenant; "": of old
    classifier: str = ""  # digest of what chose the category by its vector; "" for rule or header
    shared_key: str = ""  # the exact key without the tenant in scope shared; "" elsewhere
    approved: bool = False  # a shared entry that may serve other tenants
    cost: float = 0.0  # seconds of upstream time that the answer took
    answer_id: str = ""  # the `id` in the answer's body
    key_id: str = ""  # first digits of the digest of the key that it was stored for; "": none
    earlier: tuple[str, ...] = ()  # the users' texts of the earlier turns, in order
    earlier_vectors: tuple[Vector | None, ...] = ()  # theirs, by `checkpoint`; () if none has one


class Held(Struct, frozen=True, gc=False):
    """What memory keeps of an entry: enough to judge it without touching the documents.

    It holds nothing that could hold it, so the collector of cycles need not walk a million of them.
    """

    id: EntryId
    key: PartitionKey
    tenant: str
    category: str
    query: str
    created_at: datetime
    size: int  # bytes counted against the quota
    model: str
    classifier: str = ""
    shared_key: str = ""
    approved: bool = False
    cost: float = 0.0  # seconds of upstream time
    earlier: tuple[str, ...] = ()
    user: str = ""  # as the entry's

    @property
    def version(self) -> Version:
        """What tells it from others that its id has had and will have."""
        return Version(self.id, self.created_at)

    def approving(self) -> Held:
        """Return the entry as one that may serve other tenants."""
        return structs.replace(self, approved=True)


class Stored(NamedTuple):
    """A stored entry without its body: what start-up needs."""

    held: Held
    checkpoint: str
    vector: Vector | None
    earlier_vectors: tuple[Vector | None, ...] = ()  # as the entry's


class Neighbor(NamedTuple):
    """An id that the index found."""

    id: EntryId
    similarity: float  # cosine in [-1, 1], larger is nearer


class Candidate(NamedTuple):
    """A live entry with its similarity to this query."""

    held: Held
    similarity: float
    risk: float | None = None  # P(its answer is wrong for this query), where a budget asks for it

    @property
    def doubt(self) -> float:
        """The risk, or for want of one how far the cosine is from 1."""
        return max(0.0, 1.0 - self.similarity) if self.risk is None else self.risk


class Admission(StrEnum):
    """What became of an entry that was offered."""

    STORED = "stored"
    TOO_LARGE = "too_large"  # larger than its category's quota, or the category is gone
    STORE_FAILED = "store_failed"
    REMOVED = "removed"  # it was purged after it was asked for, or removed as it was written


class Facts(NamedTuple):
    """What the cache holds now, and what it let go of since it was opened; counts by category."""

    entries: dict[str, int]
    bytes: dict[str, int]
    hot_bytes: int
    evicted: dict[str, int]
    expired: dict[str, int]
    deletions_owed: int


def check_vector(vector: Vector, dimension: int) -> None:
    """Raise ValueError unless this is a float32 vector of shape (dimension,) and unit length."""
    if vector.shape != (dimension,) or vector.dtype != np.float32:
        raise ValueError(
            f"vector must be float32 of shape ({dimension},), got {vector.dtype} {vector.shape}"
        )
    squared = float(vector @ vector)
    if not abs(squared - 1.0) <= UNIT_TOLERANCE:  # also refuses NaN
        raise ValueError(f"vector must have unit length, got {squared**0.5:.4f}")


def check_vectors(vectors: Iterable[Vector | None], dimension: int) -> None:
    """Raise ValueError unless all that are there are unit vectors of shape (dimension,)."""
    for vector in vectors:
        if vector is not None:
            check_vector(vector, dimension)


def size_of(entry: Entry) -> int:
    """Return the bytes that the entry counts against a quota: body, texts, vectors and books."""
    vectors = sum(v.nbytes for v in (entry.vector, *entry.earlier_vectors) if v is not None)
    named = (
        entry.query,
        entry.user,
        entry.classifier,
        entry.shared_key,
        entry.answer_id,
        entry.key_id,
    )
    texts = sum(len(text.encode()) for text in (*named, *entry.earlier))
    return len(entry.body) + texts + vectors + OVERHEAD
