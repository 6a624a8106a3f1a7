"""Purging: which stored entries a selector names, and taking them out for good."""

from __future__ import annotations

import asyncio
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from store.documents.base import DocumentStore, Filter, Stored, Summary
from store.entry import EntryId, Vector

_PAGE = 500  # entries looked at in one step
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

    def selects(self, entry: Summary) -> bool:
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


async def similar(
    documents: DocumentStore, vector: Vector, threshold: float, checkpoint: str
) -> list[EntryId]:
    """Return the ids of all entries, of any partition, at or above a cosine to a unit vector.

    Every stored vector is compared: a purge that an approximate index finished with would leave
    some behind. Vectors of another checkpoint cannot be compared and are not served by meaning.
    """
    found: list[EntryId] = []
    async for batch in documents.load_all(_PAGE):
        same = [s for s in batch if s.vector is not None and s.checkpoint == checkpoint]
        if same:
            found += await asyncio.to_thread(_at_least, same, vector, threshold)
    return found


def _at_least(batch: list[Stored], vector: Vector, threshold: float) -> list[EntryId]:
    rows = np.stack([stored.vector for stored in batch if stored.vector is not None])
    cosines = rows @ vector
    return [s.held.id for s, cosine in zip(batch, cosines, strict=True) if cosine >= threshold]
