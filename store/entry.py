"""What is stored, and what a search finds. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, NewType

import numpy as np
import numpy.typing as npt

EntryId = NewType("EntryId", str)  # the exact key's first 32 hex digits
Vector = npt.NDArray[np.float32]  # shape (d,), unit length


class PartitionKey(NamedTuple):
    """Which vectors may be compared at all: everything that must match exactly."""

    partition: str  # digest of the request without its last user text and earlier turns
    context: str  # digest of the earlier turns


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


@dataclass(frozen=True, slots=True)
class Held:
    """What memory keeps of an entry: enough to judge it without touching the documents."""

    id: EntryId
    key: PartitionKey
    tenant: str
    category: str
    query: str
    created_at: datetime
    size: int  # bytes counted against the quota


class Neighbor(NamedTuple):
    """An id that the index found."""

    id: EntryId
    similarity: float  # cosine in [-1, 1], larger is nearer


class Candidate(NamedTuple):
    """A live entry with its similarity to this query."""

    held: Held
    similarity: float
