"""The map of a category: its entries as points, near each other where their questions are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from proxy.admin.entries import EntriesAdmin
from proxy.admin.meaning import newest, vectors_of
from proxy.dashboard.entry_values import kind_of_state, short
from proxy.dashboard.pages import Pages
from proxy.dashboard.projection import fitted, projected
from proxy.rules import InForce
from store.cache import Cache
from store.entry import EntryId, Held, Vector
from store.policy import DEFAULT_CATEGORY

MOST = 2_000  # entries on a map
WIDTH, HEIGHT, MARGIN = 900, 560, 12
_COLOURS = 5  # groups that have one of their own; the others share the last
OTHERS = "others"
COLOURED_BY = {"state": "state", "model": "model", "partition": "partition"}


class Dot(NamedTuple):
    """An entry on the map."""

    id: EntryId
    question: str
    group: str
    colour: int  # from 1
    x: float
    y: float


class MapPage:
    """Shows how the questions of a category lie."""

    def __init__(
        self, pages: Pages, entries: EntriesAdmin, cache: Cache, in_force: InForce
    ) -> None:
        self._pages = pages
        self._entries = entries
        self._cache = cache
        self._in_force = in_force

    async def show(self, request: Request) -> Response:
        """Return the map of one category's newest entries."""
        rules = self._in_force.rules
        category = request.query_params.get("category") or DEFAULT_CATEGORY
        by = request.query_params.get("by", "state")
        by = by if by in COLOURED_BY else "state"
        chosen = await newest(self._cache.held(), lambda held: held.category == category, MOST)
        vectors: dict[EntryId, Vector] = {}
        groups: dict[EntryId, str] = {}
        index = self._cache.vectors[rules.encoding.checkpoint].index
        async for part in vectors_of(index, chosen.entries):
            vectors |= part
            found = (self._cache.exact(id) for id in part)
            groups |= {held.id: self._group(held, by) for held in found if held is not None}
        shown = [held for held in chosen.entries if held.id in groups]
        # A page with thousands of points takes its time to write, too.
        return await asyncio.to_thread(
            self._drawn,
            request,
            shown,
            [groups[held.id] for held in shown],
            [vectors[held.id] for held in shown],
            category=category,
            by=by,
            of=chosen.of,
            looked_at=len(chosen.entries),
            categories=rules.book.names,
        )

    def _group(self, held: Held, by: str) -> str:
        if by == "model":
            return held.model
        if by == "partition":
            return f"{held.tenant}, {held.model} ({held.key.partition[:6]})"
        return kind_of_state(self._entries.standing(held))

    def _drawn(
        self,
        request: Request,
        shown: Sequence[Held],
        groups: Sequence[str],
        vectors: Sequence[Vector],
        **values: Any,
    ) -> Response:
        points, share = projected(np.stack(vectors) if vectors else np.empty((0, 1)))
        places = fitted(points, WIDTH, HEIGHT, MARGIN)
        colours = coloured(groups)
        dots = [
            Dot(held.id, short(held.query, 120), group, colours.get(group, _COLOURS + 1), x, y)
            for held, group, (x, y) in zip(shown, groups, places, strict=True)
        ]
        legend = dict(colours)
        if len(colours) < len(set(groups)):
            legend[OTHERS] = _COLOURS + 1
        return self._pages.show(
            request,
            "entries_map.html",
            dots=dots,
            legend=legend,
            share=share,
            width=WIDTH,
            height=HEIGHT,
            coloured_by=COLOURED_BY,
            **values,
        )


def coloured(groups: Sequence[str]) -> dict[str, int]:
    """Return a colour for each of the largest groups, from 1; equal sizes go by name."""
    ranked = sorted(Counter(groups).items(), key=lambda each: (-each[1], each[0]))
    return {group: number for number, (group, _) in enumerate(ranked[:_COLOURS], 1)}
