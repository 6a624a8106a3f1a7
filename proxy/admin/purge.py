"""Purging: which stored entries a selector names, and taking them out for good."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from embed.encoder import Encoder
from store.deletions import DELETED_AT_ONCE, slices
from store.documents.base import DocumentStore, Filter, Summary
from store.entry import Entry, EntryId, Held, Vector
from store.policy import HIT_THRESHOLD
from store.purges import Selects, everything
from store.vectors import Maker

_PAGE = 500  # entries looked at in one step
_ENCODED_AT_ONCE = 16
# The cosine from which on two questions mean the same where nothing but the cosine says so. Where a
# category has an error budget the score decides, and its own threshold is far too low for this.
MEANS_THE_SAME = HIT_THRESHOLD
SELECTORS = ("id", "category", "tenant", "model", "tag", "prefix", "similar_to", "all")


class Purge(BaseModel):
    """Which entries go: one selector, and whether to only count."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(None, min_length=1)
    category: str | None = Field(None, min_length=1)
    tenant: str | None = Field(None, min_length=1)
    model: str | None = Field(None, min_length=1)
    tag: str | None = Field(None, min_length=1)
    prefix: str | None = Field(None, min_length=1)
    similar_to: str | None = Field(None, min_length=1, max_length=10_000)
    threshold: float | None = Field(None, ge=-1, le=1)  # cosine; only with similar_to
    all: Literal[True] | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_selector(self) -> Purge:
        given = [name for name in SELECTORS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(SELECTORS)}")
        if self.threshold is not None and given != ["similar_to"]:
            raise ValueError("threshold goes with similar_to only")
        return self

    def selects(self, entry: Summary | Entry) -> bool:
        """Whether this entry goes, for every selector but similar_to."""
        return (
            self.all is True
            or self.id == entry.id
            or self.category == entry.category
            or self.tenant == entry.tenant
            or self.model == entry.model
            or self.tag in entry.tags
            or (self.prefix is not None and entry.query.startswith(self.prefix))
        )


@dataclass(frozen=True, slots=True)
class Near:
    """What `similar_to` selects: all at or above a cosine to a text, by one checkpoint."""

    vector: Vector  # the text's
    threshold: float
    checkpoint: str

    def selects(self, entry: Entry) -> bool:
        """Whether this entry, whose vector is known, goes."""
        if entry.vector is None or entry.checkpoint != self.checkpoint:
            return False
        return bool(entry.vector @ self.vector >= self.threshold)


def told(purge: Purge | Near) -> bytes:
    """Return what a purge selects, for other replicas."""
    if isinstance(purge, Near):
        return orjson.dumps({"near": [purge.vector.tolist(), purge.threshold, purge.checkpoint]})
    return orjson.dumps({"purge": purge.model_dump(exclude_none=True)})


def heard(data: bytes) -> Selects:
    """Return what a purge of another replica selects; of a later version, say, everything."""
    try:
        said = orjson.loads(data)
        if "near" in said:
            vector, threshold, checkpoint = said["near"]
            return Near(np.array(vector, np.float32), threshold, checkpoint).selects
        return Purge(**said["purge"]).selects
    except (ValueError, KeyError, TypeError):
        return everything


async def matching(documents: DocumentStore, purge: Purge) -> list[EntryId]:
    """Return the ids of the stored entries that a purge by anything but similarity selects.

    The filter spares reading the others. It lets everything pass where the selector is empty, so
    the selector has the last word.
    """
    chosen = Filter(
        id=purge.id or "",
        category=purge.category or "",
        tenant=purge.tenant or "",
        model=purge.model or "",
        tag=purge.tag or "",
        prefix=purge.prefix or "",
    )
    found: list[EntryId] = []
    cursor: str | None = None
    while True:
        page = await documents.browse(chosen, limit=_PAGE, cursor=cursor)
        found += [entry.id for entry in page.entries if purge.selects(entry)]
        if (cursor := page.next) is None:
            return found


async def take_out(documents: DocumentStore, ids: list[EntryId]) -> int:
    """Delete stored entries; return how many there were. Raises StoreUnavailable.

    A part at a time: one write has one budget of time, however much it is.
    """
    gone = 0
    for part in slices(ids, DELETED_AT_ONCE):
        gone += await documents.purge(part)
    return gone


async def similar(
    documents: DocumentStore, near: Near, encoder: Encoder, made: Maker | None = None
) -> list[EntryId]:
    """Return the ids of all entries, of any partition, that are near enough to a unit vector.

    That vector is the encoder's. Every stored vector is compared: a purge that an approximate index
    finished with would leave some behind. Vectors of another checkpoint cannot be compared: where
    one has served, `made` gives what the encoder made of such entries, and the others are encoded
    now; where none has, they are not served by meaning. Raises EncoderFailed, StoreUnavailable.
    """
    found: list[EntryId] = []
    async for batch in documents.load_all(_PAGE):
        known = {
            stored.held.id: stored.vector
            for stored in batch
            if stored.vector is not None and stored.checkpoint == encoder.checkpoint
        }
        others = [s.held for s in batch if s.vector is not None and s.held.id not in known]
        if made is not None:
            known |= await _made_now(others, encoder, made)
        if known:
            found += await asyncio.to_thread(_at_least, known, near.vector, near.threshold)
    return found


async def _made_now(entries: list[Held], encoder: Encoder, made: Maker) -> dict[EntryId, Vector]:
    known, unknown = dict[EntryId, Vector](), list[Held]()
    for held in entries:
        before = made(held)
        if before is not None:
            known[held.id] = before.vector
        elif encoder.fits(held.query):
            unknown.append(held)
    for start in range(0, len(unknown), _ENCODED_AT_ONCE):
        part = unknown[start : start + _ENCODED_AT_ONCE]
        vectors = await encoder.encode([held.query for held in part])
        known |= {held.id: vector for held, vector in zip(part, vectors, strict=True)}
    return known


def _at_least(vectors: Mapping[EntryId, Vector], vector: Vector, threshold: float) -> list[EntryId]:
    cosines = np.stack(list(vectors.values())) @ vector
    return [id for id, cosine in zip(vectors, cosines, strict=True) if cosine >= threshold]
