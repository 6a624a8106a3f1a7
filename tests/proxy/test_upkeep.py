"""What can no longer be served leaves without traffic, and what might be, stays."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from proxy.rules import InForce
from proxy.upkeep import outlived, sweep_for_ever, utc_now, warm
from store.cache import Cache
from store.documents.base import held_of
from store.entry import Entry, EntryId
from store.errors import StoreUnavailable
from store.index import PartitionedIndex
from store.policy import LoadRule, Policy, PolicyBook
from tests.encodings import rules_of
from tests.entries import CHECKPOINT, DIMENSION, NOON, entry
from tests.fakes_documents import MemoryDocuments

HOUR = timedelta(hours=1)


def book(**fields: Any) -> PolicyBook:
    return PolicyBook({"default": Policy(name="default", **fields)})


@pytest.mark.parametrize(
    ("fields", "hours", "gone"),
    [
        ({"ttl": HOUR}, 1, False),
        ({"ttl": HOUR}, 2, True),
        ({"ttl": HOUR, "stale_if_error": 2 * HOUR}, 3, False),
        ({"ttl": HOUR, "stale_if_error": 2 * HOUR}, 4, True),
    ],
)
def test_an_entry_outlives_its_ttl_by_what_it_may_stand_in_for(
    fields: dict[str, Any], hours: int, gone: bool
) -> None:
    assert outlived(book(**fields), held_of(entry("a")), NOON + hours * HOUR) is gone


def test_an_entry_stays_for_as_long_as_load_may_stretch_its_life() -> None:
    load = LoadRule(latency_target_ms=100, threshold_floor=0.8, ttl_ceiling=5 * HOUR)
    stretched = book(ttl=HOUR, load=load)
    assert not outlived(stretched, held_of(entry("a")), NOON + 5 * HOUR)
    assert outlived(stretched, held_of(entry("a")), NOON + 6 * HOUR)


def test_an_entry_of_a_category_that_is_gone_has_outlived_it() -> None:
    assert outlived(book(), held_of(entry("a", category="old")), NOON)


async def test_a_change_of_policy_sweeps_at_once() -> None:
    in_force, changed = InForce(rules_of(book(ttl=HOUR))), asyncio.Event()
    documents = MemoryDocuments()
    cache = await Cache.open(
        documents,
        index=PartitionedIndex(DIMENSION),
        shares=in_force.rules.book.shares,
        checkpoint=CHECKPOINT,
    )
    await cache.admit(entry("a", created_at=utc_now() - timedelta(minutes=30)))
    sweeping = asyncio.create_task(sweep_for_ever(cache, in_force, changed))
    await asyncio.sleep(0)
    in_force.rules = rules_of(book(ttl=timedelta(minutes=10)))
    changed.set()
    async with asyncio.timeout(5):
        while cache.facts().expired != {"default": 1}:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    sweeping.cancel()
    with suppress(asyncio.CancelledError):
        await sweeping
    await cache.aclose()
    assert documents.entries == {}


class BusyOnce(MemoryDocuments):
    """Does not answer the first read."""

    async def get(self, id: EntryId) -> Entry | None:
        if self.reads == 0:
            self.reads = 1
            raise StoreUnavailable("busy")
        return await super().get(id)


async def test_a_store_that_is_busy_at_the_start_is_read_ahead_all_the_same() -> None:
    cache = await Cache.open(
        BusyOnce(entry("a"), entry("b")),
        index=PartitionedIndex(DIMENSION),
        shares=book().shares,
        checkpoint=CHECKPOINT,
    )
    await warm(cache, pause=0)
    assert cache.hot(EntryId("a")) is not None and cache.hot(EntryId("b")) is not None
    await cache.aclose()
