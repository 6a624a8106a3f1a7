"""From a document store to the lines of an export, in bounded memory, beside a running server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from proxy.transfer.files import Ticker
from store.documents.base import DocumentStore, Filter, Stored
from store.documents.records import Pair, Records
from store.quarantine import EVERYBODY
from store.transfer.lines import Header, LineWriter
from store.transfer.values import Data, Stop, entry_data, pair_data, policy_data, stop_data

WHAT = ("entries", "policies", "pairs", "quarantine")
_HEADS_AT_ONCE = 256
_BODIES_AT_ONCE = 16  # each may be large
_PAIRS_AT_ONCE = 500

Write = Callable[[bytes], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be exported."""

    what: tuple[str, ...] = WHAT
    category: str = ""  # here and below "": every one
    tenant: str = ""
    vectors: bool = True


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to."""

    counts: dict[str, int]  # lines by kind
    left_out: int  # entries that are damaged, or were removed while it ran

    def as_data(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        kinds = {"entries": "entry", "policies": "policy", "pairs": "pair"}
        counts = {name: self.counts.get(kinds.get(name, name), 0) for name in WHAT}
        return {**counts, "left_out": self.left_out}


def chosen(names: str) -> tuple[str, ...]:
    """Read a list as in "entries,pairs"; raise ValueError that says what is allowed.

    Entries bring their quarantine along: without it a stopped answer would be served again.
    """
    wanted = {name.strip() for name in names.split(",")}
    for name in sorted(wanted - set(WHAT)):
        raise ValueError(f"{name!r} is not allowed; allowed: {', '.join(WHAT)}")
    if "entries" in wanted:
        wanted.add("quarantine")
    return tuple(name for name in WHAT if name in wanted)


async def export(
    documents: DocumentStore,
    records: Records,
    wanted: Wanted,
    write: Write,
    tick: Ticker,
    *,
    at: datetime,
    nearhit: str,
) -> Exported:
    """Write the lines of an export; raise StoreUnavailable, and what `write` raises."""
    lines, left_out = LineWriter(), 0
    write(lines.line((await _header(documents, wanted, at, nearhit)).as_data()))
    if "policies" in wanted.what:
        version = await records.latest_version()
        if version is not None:
            write(lines.line(policy_data(version)))
    if "quarantine" in wanted.what:
        for id, tenant in await records.quarantined():
            if wanted.tenant in ("", tenant) or tenant == EVERYBODY:
                write(lines.line(stop_data(Stop(id, tenant))))
    if "pairs" in wanted.what:
        async for pair in _pairs(records, wanted):
            write(lines.line(pair_data(pair)))
    if "entries" in wanted.what:
        left_out = await _entries(documents, wanted, write, lines, tick)
    counts = dict(lines.counts)
    write(lines.footer())
    return Exported(counts, left_out)


async def _header(documents: DocumentStore, wanted: Wanted, at: datetime, nearhit: str) -> Header:
    newest = None
    page = await documents.browse(
        Filter(category=wanted.category, tenant=wanted.tenant), limit=1, cursor=None
    )
    if page.entries:
        newest = await documents.get(page.entries[0].id)
    vector = None if newest is None else newest.vector
    return Header(
        at=at,
        nearhit=nearhit,
        checkpoint=None if newest is None else newest.checkpoint,
        dimension=None if vector is None else len(vector),
        vectors=wanted.vectors,
        what=wanted.what,
        category=wanted.category,
        tenant=wanted.tenant,
    )


async def _pairs(records: Records, wanted: Wanted) -> AsyncIterator[Pair]:
    """Yield the pairs, the oldest first, though they are listed the newest first.

    Only the cursors are kept, and the first page: a pair that comes meanwhile would push others
    out of it.
    """
    category = wanted.category or None
    first = page = await records.pairs(limit=_PAIRS_AT_ONCE, category=category)
    cursors: list[str] = []
    while page.next is not None:
        cursors.append(page.next)
        page = await records.pairs(limit=_PAIRS_AT_ONCE, cursor=page.next, category=category)
    for cursor in reversed(cursors):
        page = await records.pairs(limit=_PAIRS_AT_ONCE, cursor=cursor, category=category)
        for pair in reversed(page.items):
            if wanted.tenant in ("", pair.tenant):
                yield pair
    for pair in reversed(first.items):
        if wanted.tenant in ("", pair.tenant):
            yield pair


async def _entries(
    documents: DocumentStore, wanted: Wanted, write: Write, lines: LineWriter, tick: Ticker
) -> int:
    """Write the entries, the oldest put first; return how many were left out."""
    total, seen, lost = await documents.count(), 0, 0
    async for heads in documents.load_all(_HEADS_AT_ONCE):
        ids = [stored.held.id for stored in heads if _passes(stored, wanted)]
        for start in range(0, len(ids), _BODIES_AT_ONCE):
            part = ids[start : start + _BODIES_AT_ONCE]
            for entry in await asyncio.gather(*map(documents.get, part)):
                raw = (
                    None
                    if entry is None
                    else _line(lines, entry_data(entry, vectors=wanted.vectors))
                )
                if raw is None:
                    lost += 1
                else:
                    write(raw)
        seen += len(heads)
        tick("exporting entries: {} of {}", seen, max(seen, total))
    return lost + max(0, total - seen)


def _line(lines: LineWriter, data: Data) -> bytes | None:
    try:
        return lines.line(data)
    except ValueError:  # a number that is none: damage that no checksum has seen
        return None


def _passes(stored: Stored, wanted: Wanted) -> bool:
    held = stored.held
    return wanted.category in ("", held.category) and wanted.tenant in ("", held.tenant)
