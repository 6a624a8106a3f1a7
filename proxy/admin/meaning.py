"""Stored entries by what their questions mean: nearest to a text, and nearest to each other.

Read from the index in memory, a few entries between two turns of the event loop, so that who is
served meanwhile does not wait. An entry without a vector by the encoder in force is not found here,
as it is not when it is served.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from embed.errors import EmbedError
from proxy.encoding import Encoding
from proxy.errors import ApiError
from proxy.rules import Rules
from store.cache import Cache
from store.decision.guards import vetoes
from store.documents.base import DocumentStore, Filter
from store.entry import Candidate, EntryId, Held, Vector
from store.index import VectorIndex
from store.policy import Policy, PolicyBook, stricter

MOST_COMPARED = 100_000  # entries of one search: about a second of this process's time
NEIGHBORS = 8
UNREADABLE = "the encoder cannot read this text whole: shorten or reword it"
_PAGE = 500  # stored entries looked at in one step
_AT_ONCE = 64  # entries between two turns of the event loop, about a quarter of a millisecond
_SCANNED_AT_ONCE = 1_000  # the same, where nothing but labels are looked at
_LONGEST_REST = 0.01  # seconds

Passes = Callable[[Held], bool]


class Compared(NamedTuple):
    """What a search by meaning found."""

    nearest: list[Candidate]  # nearest first
    compared: int  # how many entries were looked at
    of: int  # how many there were to look at


class Chosen(NamedTuple):
    """Held entries that somebody asked for, the newest first."""

    entries: list[Held]
    of: int  # how many more there are, these included


class Neighbor(NamedTuple):
    """Another entry of the same partition, and what would keep its answer from this question."""

    held: Held
    similarity: float  # cosine
    vetoes: tuple[str, ...]  # guards that forbid it
    threshold: float | None  # the stricter of both categories'; None: one of them is gone
    budgeted: bool  # the score has a word in it as well
    same_past: bool  # the users' earlier turns are the same, to the letter


async def newest(entries: Sequence[Held], passes: Passes, most: int) -> Chosen:
    """Return up to `most` of the entries that pass, and how many do; the newest come last in."""
    chosen: list[Held] = []
    count = 0
    for end in range(len(entries), 0, -_SCANNED_AT_ONCE):
        for held in reversed(entries[max(0, end - _SCANNED_AT_ONCE) : end]):
            if passes(held):
                count += 1
                if count <= most:
                    chosen.append(held)
        await asyncio.sleep(0)
    return Chosen(chosen, count)


async def vectors_of(
    index: VectorIndex, entries: Sequence[Held]
) -> AsyncIterator[dict[EntryId, Vector]]:
    """Yield the vectors of those entries that have one, in their order, a slice at a time.

    After a slice this rests as long as it took with what was done with it, so that at most half of
    the time is taken from whoever is served meanwhile.
    """
    for start in range(0, len(entries), _AT_ONCE):
        began = time.perf_counter()
        part = entries[start : start + _AT_ONCE]
        found = await index.fetch((held.key, held.id) for held in part)
        yield {held.id: found[held.id] for held in part if held.id in found}
        await asyncio.sleep(min(time.perf_counter() - began, _LONGEST_REST))


async def nearest(
    cache: Cache, checkpoint: str, vector: Vector, passes: Passes, most: int
) -> Compared:
    """Return up to `most` live entries of any partition that pass, nearest to a unit vector.

    `vector` is of this checkpoint. No more than MOST_COMPARED entries are looked at, the newest.
    """
    chosen = await newest(cache.held(), passes, MOST_COMPARED)
    best: list[tuple[float, EntryId]] = []
    async for part in vectors_of(cache.vectors[checkpoint].index, chosen.entries):
        if part:
            rows = np.concatenate(list(part.values())).reshape(len(part), -1)
            cosines = rows @ vector
            best = heapq.nlargest(most, [*best, *zip(cosines.tolist(), part, strict=True)])
    found = [
        Candidate(held, max(-1.0, min(1.0, similarity)))
        for similarity, id in best
        if (held := cache.exact(id)) is not None
    ]
    return Compared(found, len(chosen.entries), chosen.of)


async def neighbors(cache: Cache, rules: Rules, held: Held) -> list[Neighbor] | None:
    """Return the nearest entries of an entry's own partition; None if it has no vector."""
    checkpoint = rules.encoding.checkpoint
    known = await cache.vectors[checkpoint].index.fetch([(held.key, held.id)])
    if held.id not in known:
        return None
    near = await cache.similar(held.key, known[held.id], NEIGHBORS + 1, checkpoint=checkpoint)
    others = [candidate for candidate in near if candidate.held.id != held.id][:NEIGHBORS]
    return await asyncio.to_thread(_weighed, held, others, rules.book)


def _weighed(held: Held, others: Iterable[Candidate], book: PolicyBook) -> list[Neighbor]:
    weighed = []
    for other, similarity, _ in others:
        policy = judging(book, held, other)
        weighed.append(
            Neighbor(
                held=other,
                similarity=similarity,
                vetoes=vetoes(held.query, other.query),
                threshold=None if policy is None else policy.hit_threshold,
                budgeted=policy is not None and policy.error_budget is not None,
                same_past=other.earlier == held.earlier,
            )
        )
    return weighed


def judging(book: PolicyBook, one: Held, other: Held) -> Policy | None:
    """Return the policy that one entry's question is judged by against the other's answer."""
    if one.category not in book or other.category not in book:
        return None
    return stricter(book[one.category], book[other.category])


async def passing(documents: DocumentStore, chosen: Filter) -> Passes:
    """Return what tells of a held entry whether it passes; only what is stored knows its tags."""
    tagged = await _ids(documents, chosen) if chosen.tag else None

    def passes(held: Held) -> bool:
        return (
            chosen.category in ("", held.category)
            and chosen.tenant in ("", held.tenant)
            and chosen.model in ("", held.model)
            and (tagged is None or held.id in tagged)
        )

    return passes


async def _ids(documents: DocumentStore, chosen: Filter) -> set[EntryId]:
    ids: set[EntryId] = set()
    cursor: str | None = None
    while len(ids) < MOST_COMPARED:
        page = await documents.browse(chosen, limit=_PAGE, cursor=cursor)
        ids.update(entry.id for entry in page.entries)
        if (cursor := page.next) is None:
            break
    return ids


async def encoded(encoding: Encoding, text: str, param: str) -> Vector:
    """Return the vector of a text that an operator gave as `param`. Raises ApiError."""
    if not encoding.encoder.fits(text):
        raise ApiError(400, f"{param}: {UNREADABLE}", param=param, code="text_unreadable")
    try:
        return await encoding.batcher.encode(text)
    except EmbedError as error:
        raise not_encoded(param, error) from None


def not_encoded(param: str, error: EmbedError) -> ApiError:
    """Return the 503 for a text that an operator gave as `param`."""
    return ApiError(
        503,
        f"{param}: the text cannot be encoded now: {error}",
        type="server_error",
        param=param,
        code="encoder_unavailable",
    )
