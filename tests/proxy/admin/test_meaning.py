"""Searching all partitions by meaning, and what stands beside an entry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.admin import meaning
from proxy.admin.meaning import nearest, neighbors, newest, passing
from store.cache import Cache
from store.documents.base import Filter, held_of
from store.entry import Held
from store.eviction import Quota, Share
from store.index import PartitionedIndex
from tests.encodings import rules_of
from tests.entries import CHECKPOINT, DIMENSION, KEY, OTHER_KEY, axis, entry, near
from tests.fakes_documents import MemoryDocuments
from tests.harness import policies

AMPLE = Share(Quota(entries=1000, bytes=2**30))


@asynccontextmanager
async def opened(*entries: Any) -> AsyncIterator[tuple[Cache, MemoryDocuments]]:
    documents = MemoryDocuments(*entries)
    index = PartitionedIndex(DIMENSION, threads=1)
    shares = {"default": AMPLE, "fares": AMPLE}
    cache = await Cache.open(documents, index=index, shares=shares, checkpoint=CHECKPOINT)
    try:
        yield cache, documents
    finally:
        await cache.aclose()
        await index.aclose()


def everything(held: Held) -> bool:
    return True


async def test_the_nearest_of_all_partitions_come_first() -> None:
    stored = (
        entry("far", vector=near(0, 0.2)),
        entry("near", vector=near(0, 0.9), key=OTHER_KEY),
        entry("nearest", vector=axis(0)),
        entry("nowhere"),
    )
    async with opened(*stored) as (cache, _):
        found = await nearest(cache, CHECKPOINT, axis(0), everything, 2)
    assert [candidate.held.id for candidate in found.nearest] == ["nearest", "near"]
    assert [candidate.similarity for candidate in found.nearest] == pytest.approx([1, 0.9])
    assert (found.compared, found.of) == (4, 4)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (Filter(category="fares"), {"b"}),
        (Filter(tenant="airport"), {"c"}),
        (Filter(model="gull-3"), {"a"}),
        (Filter(tag="night"), {"a", "c"}),
        (Filter(tag="night", tenant="airport"), {"c"}),
        (Filter(), {"a", "b", "c"}),
    ],
)
async def test_labels_choose_what_is_compared(chosen: Filter, expected: set[str]) -> None:
    stored = (
        entry("a", vector=axis(0), model="gull-3", tags=("night",)),
        entry("b", vector=axis(0), category="fares"),
        entry("c", vector=axis(0), tenant="airport", tags=("night", "sea")),
    )
    async with opened(*stored) as (cache, documents):
        passes = await passing(documents, chosen)
        found = await nearest(cache, CHECKPOINT, axis(0), passes, 9)
    assert {candidate.held.id for candidate in found.nearest} == expected


async def test_more_than_may_be_compared_leaves_out_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(meaning, "MOST_COMPARED", 2)
    async with opened(*(entry(id, vector=axis(0)) for id in "abc")) as (cache, _):
        found = await nearest(cache, CHECKPOINT, axis(0), everything, 9)
    assert {candidate.held.id for candidate in found.nearest} == {"b", "c"}
    assert (found.compared, found.of) == (2, 3)


async def test_whoever_leaves_during_the_search_is_not_found() -> None:
    async with opened(*(entry(id, vector=axis(0)) for id in "ab")) as (cache, _):
        gone: list[Callable[[], Any]] = [lambda: cache._memory.let_go(cache.held()[0].id)]

        def leaving(held: Held) -> bool:
            if gone:
                gone.pop()()
            return True

        found = await nearest(cache, CHECKPOINT, axis(0), leaving, 9)
    assert [candidate.held.id for candidate in found.nearest] == ["b"]


async def test_the_newest_come_first_and_all_are_counted() -> None:
    entries = [held_of(entry(id)) for id in "abcd"]
    chosen = await newest(entries, lambda held: held.id != "d", 2)
    assert [held.id for held in chosen.entries] == ["c", "b"] and chosen.of == 3


async def test_a_neighbour_is_of_the_same_partition_and_says_what_keeps_it_apart() -> None:
    stored = (
        entry("one", vector=axis(0), query="a table for 4 people"),
        entry("two", vector=near(0, 0.95), query="a table for 6 people"),
        entry("three", vector=near(0, 0.5), query="a boat", earlier=("hello",), category="fares"),
        entry("elsewhere", vector=axis(0), key=OTHER_KEY),
        entry("blind"),
    )
    book = policies({"name": "default"}, {"name": "fares", "hit_threshold": 0.97})
    async with opened(*stored) as (cache, _):
        one, blind = held_of(stored[0]), held_of(stored[-1])
        found = await neighbors(cache, rules_of(book), one)
        assert await neighbors(cache, rules_of(book), blind) is None
    assert found is not None
    two, three = found
    assert (two.held.id, two.vetoes, two.threshold) == ("two", ("numbers",), 0.92)
    assert (three.held.id, three.threshold, three.same_past) == ("three", 0.97, False)
    assert two.same_past and not two.budgeted and two.held.key == KEY
