from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from store.cache import Cache
from store.documents.base import Stored, held_of
from store.documents.sqlite import SqliteDocuments
from store.entry import OVERHEAD, Admission, Entry, EntryId, Held, Vector, Version, size_of
from store.errors import StoreUnavailable
from store.eviction import Quota, Share
from store.hot import Document
from store.index import PartitionedIndex
from store.journal import Put, Removed
from tests.entries import (
    CHECKPOINT,
    DIMENSION,
    KEY,
    NOON,
    OTHER_KEY,
    axis,
    directions,
    entry,
    near,
)
from tests.fakes_documents import MemoryDocuments

A, B, C = EntryId("a"), EntryId("b"), EntryId("c")
AMPLE = Quota(entries=1000, bytes=2**30)


def held_bytes(cache: Cache) -> int:
    return sum(cache.facts().bytes.values())


LATER = timedelta(seconds=1)


@pytest.fixture
def documents() -> MemoryDocuments:
    return MemoryDocuments()


@pytest.fixture
async def cache(documents: MemoryDocuments) -> AsyncIterator[Cache]:
    cache = await opened(documents)
    yield cache
    await closed(cache)


async def opened(
    documents: MemoryDocuments | SqliteDocuments,
    quota: Quota = AMPLE,
    shares: dict[str, Share] | None = None,
    hot_bytes: int = 2**20,
) -> Cache:
    index = PartitionedIndex(DIMENSION, threads=1)
    return await Cache.open(
        documents,
        index=index,
        shares=shares or {"default": Share(quota, 1.0)},
        checkpoint=CHECKPOINT,
        hot_bytes=hot_bytes,
    )


async def closed(cache: Cache) -> None:
    await cache.aclose()
    for checkpoint in cache.vectors.checkpoints:
        await cache.vectors[checkpoint].index.aclose()


async def begun(documents: MemoryDocuments, *works: asyncio.Task[object]) -> None:
    """Let tasks run until they wait for the store."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert documents.waiting >= 1 or not documents.reading.is_set()
    assert not any(work.done() for work in works)


async def similar_ids(cache: Cache, number: int = 0) -> list[EntryId]:
    return [
        candidate.held.id
        for candidate in await cache.similar(KEY, axis(number), 10, checkpoint=CHECKPOINT)
    ]


def body_of(stored: Entry) -> Document:
    return Document(stored.body, stored.content_type)


# Lookups


async def test_an_admitted_entry_is_found_by_key_by_meaning_and_with_its_body(
    cache: Cache,
) -> None:
    stored = entry("a", vector=near(0, 0.9))
    assert await cache.admit(stored) is Admission.STORED
    held = cache.exact(A)
    assert held is not None
    assert (held.query, held.created_at, held.size) == (stored.query, NOON, size_of(stored))
    (candidate,) = await cache.similar(KEY, axis(0), checkpoint=CHECKPOINT)
    assert candidate.held is held
    assert candidate.similarity == pytest.approx(0.9)
    assert cache.hot(A) == await cache.document(A) == body_of(stored)


async def test_candidates_come_nearest_first_and_from_their_partition_only(cache: Cache) -> None:
    await cache.admit(entry("a", vector=near(0, 0.7)))
    await cache.admit(entry("b", vector=near(0, 0.95)))
    await cache.admit(entry("c", vector=axis(0), key=OTHER_KEY))
    assert await similar_ids(cache) == ["b", "a"]


async def test_an_entry_without_a_vector_is_found_by_its_key_only(cache: Cache) -> None:
    await cache.admit(entry("a"))
    assert cache.exact(A) is not None
    assert await similar_ids(cache) == []


async def test_a_miss_never_touches_the_documents(cache: Cache, documents: MemoryDocuments) -> None:
    await cache.admit(entry("a", vector=axis(0)))
    documents.failing = True
    assert cache.exact(B) is None
    assert cache.hot(B) is None
    assert await cache.document(B) is None
    assert await cache.similar(OTHER_KEY, axis(0), checkpoint=CHECKPOINT) == []
    assert documents.reads == 0


async def test_a_body_that_is_no_longer_hot_is_fetched_once(documents: MemoryDocuments) -> None:
    stored = entry("a")
    documents = MemoryDocuments(stored)
    cache = await opened(documents)
    assert cache.hot(A) is None
    assert await cache.document(A) == await cache.document(A) == cache.hot(A) == body_of(stored)
    assert documents.reads == 1
    await closed(cache)


async def test_a_body_that_cannot_be_fetched_now_is_an_error_and_stays_held(
    documents: MemoryDocuments,
) -> None:
    documents = MemoryDocuments(entry("a"))
    cache = await opened(documents)
    documents.failing = True
    with pytest.raises(StoreUnavailable):
        await cache.document(A)
    documents.failing = False
    assert await cache.document(A) == body_of(entry("a"))
    await closed(cache)


async def test_an_entry_whose_body_is_lost_is_let_go(documents: MemoryDocuments) -> None:
    documents = MemoryDocuments(entry("a", vector=axis(0)))
    cache = await opened(documents)
    documents.entries.clear()
    assert await cache.document(A) is None
    assert cache.exact(A) is None
    assert await similar_ids(cache) == []
    await closed(cache)


async def test_a_body_of_another_version_than_what_is_held_is_never_served(
    documents: MemoryDocuments,
) -> None:
    documents = MemoryDocuments(entry("a"))
    cache = await opened(documents)
    documents.entries[A] = entry("a", body=b"other", created_at=NOON + LATER)
    assert await cache.document(A) is None
    await closed(cache)


# Admission


async def test_an_entry_is_invisible_until_it_is_durable(
    cache: Cache, documents: MemoryDocuments
) -> None:
    documents.writing.clear()
    admission = asyncio.create_task(cache.admit(entry("a", vector=axis(0))))
    await begun(documents, admission)
    assert cache.exact(A) is None
    assert cache.hot(A) is None
    assert await similar_ids(cache) == []
    documents.writing.set()
    assert await admission is Admission.STORED
    assert cache.exact(A) is not None


async def test_a_store_that_fails_is_told_and_nothing_is_held(
    cache: Cache, documents: MemoryDocuments
) -> None:
    documents.failing = True
    assert await cache.admit(entry("a", vector=axis(0))) is Admission.STORE_FAILED
    assert cache.exact(A) is None
    assert await similar_ids(cache) == []
    documents.failing = False
    assert await cache.admit(entry("a")) is Admission.STORED


async def test_a_failed_replacement_leaves_the_old_entry_whole(
    cache: Cache, documents: MemoryDocuments
) -> None:
    old = entry("a", vector=axis(0))
    await cache.admit(old)
    documents.failing = True
    newer = entry("a", vector=axis(1), body=b"newer", created_at=NOON + LATER)
    assert await cache.admit(newer) is Admission.STORE_FAILED
    documents.failing = False
    assert await similar_ids(cache) == ["a"]
    assert await cache.document(A) == body_of(old)
    assert documents.entries[A] is old


async def test_a_replacement_takes_over_vector_partition_body_and_size_at_once(
    cache: Cache,
) -> None:
    await cache.admit(entry("a", vector=axis(0), body=b"old" * 100))
    newer = entry("a", vector=axis(1), key=OTHER_KEY, body=b"new", created_at=NOON + LATER)
    await cache.admit(newer)
    assert await cache.similar(KEY, axis(0), checkpoint=CHECKPOINT) == []
    (candidate,) = await cache.similar(OTHER_KEY, axis(1), checkpoint=CHECKPOINT)
    assert candidate.held.created_at == NOON + LATER
    assert cache.hot(A) == body_of(newer)
    assert held_bytes(cache) == size_of(newer)
    assert cache.facts().entries == {"default": 1}


async def test_an_old_body_fetched_across_a_replacement_is_not_served(
    documents: MemoryDocuments,
) -> None:
    documents = MemoryDocuments(entry("a", body=b"old"))
    cache = await opened(documents)
    documents.reading.clear()
    fetch = asyncio.create_task(cache.document(A))
    await begun(documents, fetch)
    newer = entry("a", body=b"new")  # even when both are of the same instant
    await cache.admit(newer)
    documents.reading.set()
    assert await fetch == body_of(newer)
    assert cache.hot(A) == body_of(newer)
    await closed(cache)


async def test_a_new_body_is_not_served_under_old_metadata_before_it_is_visible(
    documents: MemoryDocuments,
) -> None:
    documents = MemoryDocuments(entry("a", body=b"old"))
    cache = await opened(documents)
    documents.writing.clear()
    admission = asyncio.create_task(cache.admit(entry("a", body=b"new", created_at=NOON + LATER)))
    await begun(documents, admission)
    documents.entries[A] = entry("a", body=b"new", created_at=NOON + LATER)  # committed
    assert await cache.document(A) is None
    documents.writing.set()
    assert await admission is Admission.STORED
    assert await cache.document(A) == Document(b"new", "application/json")
    await closed(cache)


async def test_of_two_admissions_under_way_the_later_one_stays(
    cache: Cache, documents: MemoryDocuments
) -> None:
    documents.writing.clear()
    first = asyncio.create_task(cache.admit(entry("a", body=b"first", vector=axis(0))))
    second = asyncio.create_task(cache.admit(entry("a", body=b"second", vector=axis(1))))
    await begun(documents, first, second)
    documents.writing.set()
    await asyncio.gather(first, second)
    assert cache.hot(A) == Document(b"second", "application/json")
    assert documents.entries[A].body == b"second"
    assert cache.facts().entries == {"default": 1}


@pytest.mark.parametrize(
    ("quota", "stored", "outcome"),
    [
        pytest.param(Quota(9, size_of(entry("a"))), entry("a"), Admission.STORED, id="just fits"),
        pytest.param(
            Quota(9, size_of(entry("a")) - 1), entry("a"), Admission.TOO_LARGE, id="a byte more"
        ),
        pytest.param(Quota(0, 10**6), entry("a"), Admission.TOO_LARGE, id="no entries at all"),
    ],
)
async def test_an_entry_larger_than_the_quota_is_refused(
    documents: MemoryDocuments, quota: Quota, stored: Entry, outcome: Admission
) -> None:
    cache = await opened(documents, quota)
    assert await cache.admit(stored) is outcome
    assert bool(documents.entries) == (outcome is Admission.STORED)
    await closed(cache)


async def test_a_vector_that_does_not_fit_is_refused_before_anything_is_written(
    cache: Cache, documents: MemoryDocuments
) -> None:
    with pytest.raises(ValueError, match=r"shape \(8,\)"):
        await cache.admit(entry("a", vector=axis(0, 9)))
    assert not documents.entries


async def test_an_entry_of_another_checkpoint_is_never_compared(cache: Cache) -> None:
    await cache.admit(entry("a", vector=axis(0, 5), checkpoint="other"))
    await cache.admit(entry("b", vector=axis(0), checkpoint="other"))
    assert cache.exact(A) is not None
    assert await similar_ids(cache) == []


async def test_a_held_follow_up_keeps_what_its_users_said_before(cache: Cache) -> None:
    past = ("one", "two")
    await cache.admit(entry("a", vector=axis(0), earlier=past, earlier_vectors=(axis(1), None)))
    (found,) = await cache.similar(KEY, axis(0), checkpoint=CHECKPOINT)
    assert found.held.earlier == past
    first, second = cache.vectors.earlier(found.held.id, CHECKPOINT)
    assert second is None
    assert first is not None
    assert float(first @ axis(1)) == 1.0


async def test_vectors_of_earlier_turns_that_are_never_compared_are_not_kept_in_memory(
    cache: Cache,
) -> None:
    past: dict[str, Any] = {"earlier": ("one",), "earlier_vectors": (axis(0, 5),)}
    await cache.admit(entry("a", vector=axis(0, 5), checkpoint="other", **past))
    held = cache.exact(A)
    assert held is not None
    assert (held.earlier, cache.vectors.earlier(A, CHECKPOINT)) == (("one",), ())
    assert cache.vectors.earlier(A, "other") == ()
    assert (await cache.document(A)) is not None


@pytest.mark.parametrize(
    ("vectors", "complaint"),
    [
        pytest.param((axis(0, 7), axis(0)), "shape", id="another dimension"),
        pytest.param((axis(0), axis(0) * 2), "unit length", id="another length"),
        pytest.param((axis(0),), "1 vectors of 2 earlier turns", id="too few"),
        pytest.param((axis(0),) * 3, "3 vectors of 2 earlier turns", id="too many"),
    ],
)
async def test_vectors_of_earlier_turns_that_cannot_be_compared_are_refused(
    cache: Cache, documents: MemoryDocuments, vectors: tuple[Vector, ...], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        await cache.admit(
            entry("a", vector=axis(0), earlier=("one", "two"), earlier_vectors=vectors)
        )
    assert cache.exact(A) is None
    assert documents.entries == {}


# Eviction


async def test_the_longest_unserved_entry_makes_room_everywhere(
    documents: MemoryDocuments,
) -> None:
    cache = await opened(documents, Quota(entries=2, bytes=2**20))
    for id in ("a", "b"):
        await cache.admit(entry(id, vector=axis(0)))
    cache.touch(A)
    await cache.admit(entry("c", vector=axis(0)))
    assert set(await similar_ids(cache)) == {"a", "c"}
    assert cache.exact(B) is None
    assert cache.hot(B) is None
    await cache.aclose()
    assert set(documents.entries) == {"a", "c"}
    assert cache.facts().evicted == {"default": 1}
    assert cache.facts().entries == {"default": 2}
    await closed(cache)


SMALL = Share(Quota(entries=2, bytes=2**20), 1.0)


async def test_idle_room_is_lent_and_taken_back_from_who_is_furthest_over(
    documents: MemoryDocuments,
) -> None:
    cache = await opened(documents, shares={"default": SMALL, "fares": SMALL})
    for id in "abcd":
        await cache.admit(entry(id))
    assert cache.facts().entries == {"default": 4}
    await cache.admit(entry("e", category="fares"))
    assert cache.facts().entries == {"default": 3, "fares": 1}
    assert cache.facts().evicted == {"default": 1}
    await closed(cache)


async def test_an_entry_of_a_category_without_a_share_is_refused(cache: Cache) -> None:
    assert await cache.admit(entry("a", category="unheard-of")) is Admission.TOO_LARGE


async def test_shrinking_brings_what_is_held_within_other_shares(
    documents: MemoryDocuments,
) -> None:
    cache = await opened(documents, shares={"default": SMALL, "fares": SMALL})
    for id in "ab":
        await cache.admit(entry(id, category="fares"))
    await cache.admit(entry("c"))
    cache.set_shares({"default": SMALL})
    assert await cache.shrink() == 2
    assert cache.exact(A) is None
    assert cache.exact(EntryId("c")) is not None
    await cache.aclose()
    assert set(documents.entries) == {"c"}
    await closed(cache)


# What tenants share


async def test_entries_of_one_shared_key_are_twins(cache: Cache) -> None:
    for id, tenant in (("a", "harbour"), ("b", "airport")):
        await cache.admit(entry(id, tenant=tenant, shared_key="k"))
    await cache.admit(entry("c"))
    assert [held.id for held in cache.twins("k")] == ["a", "b"]
    assert cache.twins("") == []
    await cache.remove([A])
    assert [held.id for held in cache.twins("k")] == ["b"]


async def test_an_approval_is_seen_at_once_and_survives(documents: MemoryDocuments) -> None:
    cache = await opened(documents)
    await cache.admit(entry("a", shared_key="k"))
    assert await cache.approve([A, EntryId("gone")]) == 1
    assert [held.approved for held in cache.twins("k")] == [True]
    assert (await cache.document(A)) is not None
    again = await opened(documents)
    assert [held.approved for held in again.twins("k")] == [True]
    await closed(cache)
    await closed(again)


async def test_the_quota_of_bytes_is_never_exceeded(documents: MemoryDocuments) -> None:
    limit = 5 * (OVERHEAD + 400)
    cache = await opened(documents, Quota(entries=100, bytes=limit))
    dice = random.Random(3)
    for number in range(60):
        stored = entry(f"e{number}", query="", body=b"x" * dice.randrange(1500))
        assert await cache.admit(stored) is Admission.STORED
        assert held_bytes(cache) <= limit
        assert cache.exact(stored.id) is not None
    await cache.aclose()
    assert sum(map(size_of, documents.entries.values())) == held_bytes(cache)
    await closed(cache)


async def test_the_rows_of_evicted_entries_are_deleted_together(
    documents: MemoryDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    deletions, discard = list[int](), documents.discard

    async def counted(versions: Sequence[Version]) -> int:
        deletions.append(len(versions))
        return await discard(versions)

    monkeypatch.setattr(documents, "discard", counted)
    cache = await opened(documents, Quota(2, 2**20))
    for number in range(12):
        await cache.admit(entry(f"e{number}"))
        await asyncio.sleep(0.001)
    await closed(cache)
    assert sum(deletions) == 10
    assert len(deletions) <= 3  # one for each would be a commit for each
    assert documents.entries.keys() == {"e10", "e11"}
    assert cache.facts().deletions_owed == 0


async def test_an_evicted_entry_that_is_being_replaced_keeps_its_new_row(
    documents: MemoryDocuments,
) -> None:
    cache = await opened(documents, Quota(entries=1, bytes=2**20))
    await cache.admit(entry("a"))
    documents.writing.clear()
    other = asyncio.create_task(cache.admit(entry("b")))
    renewal = asyncio.create_task(cache.admit(entry("a", body=b"renewed")))
    await begun(documents, other, renewal)
    documents.writing.set()
    assert await other is await renewal is Admission.STORED
    await cache.aclose()
    assert {id: stored.body for id, stored in documents.entries.items()} == {"a": b"renewed"}
    assert cache.exact(A) is not None
    await closed(cache)


# Removal


async def test_a_removed_entry_is_gone_everywhere(cache: Cache, documents: MemoryDocuments) -> None:
    await cache.admit(entry("a", vector=axis(0)))
    await cache.admit(entry("b", vector=axis(0)))
    assert await cache.remove([A, EntryId("nobody"), A]) == 1
    assert cache.exact(A) is None
    assert cache.hot(A) is None
    assert await cache.document(A) is None
    assert await similar_ids(cache) == ["b"]
    assert set(documents.entries) == {"b"}
    assert cache.facts().entries == {"default": 1}


async def test_memory_lets_go_before_the_documents_do(
    cache: Cache, documents: MemoryDocuments
) -> None:
    await cache.admit(entry("a", vector=axis(0)))
    documents.writing.clear()
    removal = asyncio.create_task(cache.remove([A]))
    await begun(documents, removal)
    assert cache.exact(A) is None
    assert await similar_ids(cache) == []
    documents.writing.set()
    assert await removal == 1


async def test_a_fetch_that_began_before_the_removal_serves_nothing() -> None:
    documents = MemoryDocuments(entry("a"))
    cache = await opened(documents)
    documents.reading.clear()
    fetch = asyncio.create_task(cache.document(A))
    await begun(documents, fetch)
    await cache.remove([A])
    documents.reading.set()
    assert await fetch is None
    assert cache.hot(A) is None
    await closed(cache)


async def test_a_removal_wins_over_an_admission_that_began_before_it(
    cache: Cache, documents: MemoryDocuments
) -> None:
    documents.writing.clear()
    admission = asyncio.create_task(cache.admit(entry("a", vector=axis(0))))
    await begun(documents, admission)
    removal = asyncio.create_task(cache.remove([A]))
    await begun(documents, removal)
    documents.writing.set()
    assert await admission is Admission.REMOVED
    assert await removal == 0
    assert cache.exact(A) is None
    assert await similar_ids(cache) == []
    assert not documents.entries


async def test_an_admission_that_began_after_the_removal_stays(
    cache: Cache, documents: MemoryDocuments
) -> None:
    await cache.admit(entry("a", body=b"old"))
    documents.writing.clear()
    removal = asyncio.create_task(cache.remove([A]))
    await begun(documents, removal)
    admission = asyncio.create_task(cache.admit(entry("a", body=b"new")))
    await begun(documents, admission)
    documents.writing.set()
    assert await removal == 1
    assert await admission is Admission.STORED
    await cache.aclose()
    assert documents.entries[A].body == b"new"
    assert cache.hot(A) == Document(b"new", "application/json")


async def test_a_removal_that_the_store_refuses_holds_in_memory_and_is_made_up_for(
    cache: Cache, documents: MemoryDocuments
) -> None:
    for id in ("a", "b"):
        await cache.admit(entry(id, vector=axis(0)))
    documents.failing = True
    with pytest.raises(StoreUnavailable):
        await cache.remove([A])
    assert cache.exact(A) is None
    assert await similar_ids(cache) == ["b"]
    assert cache.facts().deletions_owed == 1
    documents.failing = False
    await cache.sweep(never, NOON)
    await cache.aclose()
    assert set(documents.entries) == {"b"}
    assert cache.facts().deletions_owed == 0


async def test_a_deletion_that_is_owed_does_not_hit_a_later_admission(
    cache: Cache, documents: MemoryDocuments
) -> None:
    await cache.admit(entry("a", body=b"old"))
    documents.failing = True
    with pytest.raises(StoreUnavailable):
        await cache.remove([A])
    documents.failing = False
    assert await cache.admit(entry("a", body=b"new")) is Admission.STORED
    await cache.aclose()
    assert documents.entries[A].body == b"new"


async def test_an_admission_that_fails_after_a_failed_removal_still_owes_the_deletion(
    cache: Cache, documents: MemoryDocuments
) -> None:
    await cache.admit(entry("a"))
    documents.failing = True
    with pytest.raises(StoreUnavailable):
        await cache.remove([A])
    assert await cache.admit(entry("a")) is Admission.STORE_FAILED
    documents.failing = False
    await cache.aclose()
    assert not documents.entries


async def test_an_admission_whose_caller_left_leaves_no_row_behind(tmp_path: Path) -> None:
    documents = SqliteDocuments.open(tmp_path)
    cache = await opened(documents)
    admission = asyncio.create_task(cache.admit(entry("a")))
    await asyncio.sleep(0)
    admission.cancel()
    with pytest.raises(asyncio.CancelledError):
        await admission
    await cache.aclose()
    assert cache.exact(A) is None
    assert await documents.count() == 0
    await closed(cache)
    await documents.aclose()


# Expiry


def never(held: Held, now: datetime) -> bool:
    return False


def of_a_minute(held: Held, now: datetime) -> bool:
    return now - held.created_at > timedelta(minutes=1)


async def test_a_sweep_removes_what_has_expired(cache: Cache, documents: MemoryDocuments) -> None:
    cache.set_shares({name: Share(AMPLE, 1.0) for name in ("default", "news")})
    await cache.admit(entry("a", vector=axis(0), category="news"))
    await cache.admit(entry("b", vector=axis(0), created_at=NOON + timedelta(hours=1)))
    assert await cache.sweep(of_a_minute, NOON + timedelta(minutes=2)) == 1
    assert cache.exact(A) is None
    assert cache.hot(A) is None
    assert await similar_ids(cache) == ["b"]
    assert cache.facts().expired == {"news": 1}
    await cache.aclose()
    assert set(documents.entries) == {"b"}


async def test_a_sweep_lets_others_run_and_spares_what_was_renewed_meanwhile(
    documents: MemoryDocuments,
) -> None:
    documents = MemoryDocuments(*(entry(f"e{number}") for number in range(1000)))
    cache = await opened(documents)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    sweep = asyncio.create_task(cache.sweep(of_a_minute, NOON + timedelta(hours=1)))
    await asyncio.sleep(0)
    last = EntryId("e999")
    assert cache.exact(last) is not None  # its slice has not come yet
    await cache.admit(entry("e999", created_at=NOON + timedelta(hours=1)))
    assert await sweep == 999
    assert turns >= 3
    assert cache.exact(last) is not None
    counting.cancel()
    await closed(cache)


async def test_a_sweep_beside_a_broken_store_is_made_up_for(
    cache: Cache, documents: MemoryDocuments
) -> None:
    await cache.admit(entry("a"))
    documents.failing = True
    assert await cache.sweep(of_a_minute, NOON + timedelta(hours=1)) == 1
    await cache.aclose()
    assert cache.facts().deletions_owed == 1
    documents.failing = False
    await cache.aclose()
    assert not documents.entries


# Opening


async def test_opening_restores_what_was_stored_and_tells_how_far_it_is() -> None:
    vectors = directions(1200)
    documents = MemoryDocuments(*(entry(f"e{n}", vector=vectors[n]) for n in range(1200)))
    index, seen = PartitionedIndex(DIMENSION, threads=1), list[tuple[int, int]]()
    cache = await Cache.open(
        documents,
        index=index,
        shares={"default": Share(Quota(5000, 2**30), 1.0)},
        checkpoint=CHECKPOINT,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(500, 1200), (1000, 1200), (1200, 1200)]
    (nearest,) = await cache.similar(KEY, vectors[77], 1, checkpoint=CHECKPOINT)
    assert nearest.held.id == "e77"
    assert await cache.document(EntryId("e77")) == body_of(documents.entries[EntryId("e77")])
    await closed(cache)


async def test_entries_of_another_checkpoint_are_restored_for_exact_hits_only() -> None:
    documents = MemoryDocuments(
        entry(
            "a",
            vector=axis(0, 5),
            checkpoint="mini-0",
            earlier=("one",),
            earlier_vectors=(axis(0, 5),),
        ),
        entry("b", vector=axis(0), earlier=("one",), earlier_vectors=(axis(1),)),
    )
    cache = await opened(documents)
    past = [cache.vectors.earlier(id, CHECKPOINT) for id in (A, B)]
    assert [len(vectors) for vectors in past] == [0, 1]
    assert await similar_ids(cache) == ["b"]
    await closed(cache)


async def test_a_smaller_quota_keeps_the_newest_and_deletes_the_rest() -> None:
    documents = MemoryDocuments(*(entry(f"e{number}") for number in range(10)))
    cache = await opened(documents, Quota(entries=3, bytes=2**20))
    await cache.aclose()
    assert set(documents.entries) == {"e7", "e8", "e9"}
    await closed(cache)


async def test_an_entry_larger_than_the_whole_quota_is_not_restored() -> None:
    documents = MemoryDocuments(entry("a"), entry("b", body=b"x" * 5000))
    cache = await opened(documents, Quota(entries=3, bytes=3000))
    assert cache.exact(B) is None
    await cache.aclose()
    assert set(documents.entries) == {"a"}
    await closed(cache)


async def test_a_store_that_cannot_be_read_cannot_be_opened(documents: MemoryDocuments) -> None:
    documents.failing = True
    index = PartitionedIndex(DIMENSION, threads=1)
    with pytest.raises(StoreUnavailable):
        await Cache.open(
            documents,
            index=index,
            shares={"default": Share(AMPLE, 1.0)},
            checkpoint=CHECKPOINT,
        )
    await index.aclose()


async def test_damaged_entries_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    documents = SqliteDocuments.open(tmp_path)
    for id in ("a", "b"):
        await documents.put(entry(id))
    await documents._writer.submit(
        "UPDATE entries SET tenant = ? WHERE id = 'a'", lambda: [("eve",)]
    )
    cache = await opened(documents)
    assert cache.exact(A) is None
    assert cache.exact(B) is not None
    assert "left out 1 damaged entries of 2" in caplog.text
    await closed(cache)
    await documents.aclose()


# All of it at once


@pytest.mark.parametrize("seed", range(6))
async def test_memory_and_documents_agree_after_any_interleaving(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    dice, documents = random.Random(seed), MemoryDocuments()
    cache = await opened(documents, Quota(entries=6, bytes=2**20), hot_bytes=2000)
    vectors, works = directions(400), set[asyncio.Task[object]]()
    removed_at: dict[EntryId, int] = {}

    async def admit(step: int) -> None:
        id = f"e{dice.randrange(10)}"
        stored = entry(
            id,
            body=f"{id} {step}".encode(),
            vector=vectors[step],
            created_at=NOON + step * LATER,
        )
        await cache.admit(stored)

    async def remove(step: int) -> None:
        ids = [EntryId(f"e{dice.randrange(10)}") for _ in range(2)]
        for id in ids:
            removed_at[id] = step
        try:
            await cache.remove(ids)
        except StoreUnavailable:
            pass

    async def serve(step: int) -> None:
        for candidate in await cache.similar(
            KEY, vectors[dice.randrange(400)], 3, checkpoint=CHECKPOINT
        ):
            try:
                document = await cache.document(candidate.held.id)
            except StoreUnavailable:
                continue
            if document is not None:
                assert_right(document, candidate.held.id, removed_at)

    def assert_right(document: Document, id: EntryId, removed: dict[EntryId, int]) -> None:
        owner, written = document.body.decode().split()
        assert owner == id
        assert int(written) > removed.get(id, -1)

    for step in range(400):
        roll = dice.random()
        if roll < 0.45:
            works.add(asyncio.ensure_future(admit(step)))
        elif roll < 0.6:
            works.add(asyncio.ensure_future(remove(step)))
        elif roll < 0.8:
            works.add(asyncio.ensure_future(serve(step)))
        elif roll < 0.85:
            documents.failing = not documents.failing
        elif roll < 0.9:
            (documents.writing.clear if documents.writing.is_set() else documents.writing.set)()
        elif roll < 0.95:
            (documents.reading.clear if documents.reading.is_set() else documents.reading.set)()
        await asyncio.sleep(0)
    documents.failing = False
    documents.writing.set()
    documents.reading.set()
    await asyncio.gather(*works)
    await cache.aclose()
    held = {id for number in range(10) if cache.exact(id := EntryId(f"e{number}")) is not None}
    assert held == set(documents.entries)
    assert len(held) <= 6
    assert held_bytes(cache) == sum(size_of(documents.entries[id]) for id in held)
    for id in held:
        assert await cache.document(id) == body_of(documents.entries[id])
    assert {
        c.held.id for c in await cache.similar(KEY, vectors[0], 20, checkpoint=CHECKPOINT)
    } == held
    await closed(cache)


def test_the_names_are_those_of_the_metric() -> None:
    outcomes: Iterable[str] = Admission
    assert set(outcomes) == {"stored", "too_large", "store_failed", "removed"}


async def test_after_a_restart_the_newest_documents_are_brought_back_into_half_the_room(
    documents: MemoryDocuments,
) -> None:
    first = await opened(documents)
    for number in range(20):
        await first.admit(entry(EntryId(f"{number:02}"), body=b"x" * 100))
    await closed(first)
    again = await opened(documents, hot_bytes=2000)
    assert again.hot(EntryId("19")) is None
    assert await again.warm() == 10
    ready = [number for number in range(20) if again.hot(EntryId(f"{number:02}"))]
    assert ready == list(range(10, 20))
    await closed(again)


async def test_the_newest_are_what_was_stored_last(cache: Cache) -> None:
    for id in (A, B, C, A):
        await cache.admit(entry(id))
    assert cache.newest(2) == [A, C]
    assert cache.newest(9) == [A, C, B]


async def test_what_another_process_stores_and_removes_is_seen_here(
    documents: MemoryDocuments,
) -> None:
    cache = await opened(documents)
    there = entry("a", vector=axis(1))
    documents.tell(Put(Stored(held_of(there), there.checkpoint, there.vector)), own=False)
    assert [
        found.held.id for found in await cache.similar(KEY, axis(1), checkpoint=CHECKPOINT)
    ] == ["a"]
    documents.tell(Removed((there.id,), purged=True), own=False)
    assert cache.exact(there.id) is None
    assert await cache.similar(KEY, axis(1), checkpoint=CHECKPOINT) == []
    await closed(cache)


async def test_room_for_another_process_entry_is_made_by_that_process(
    documents: MemoryDocuments,
) -> None:
    cache = await opened(documents, Quota(1, 2**20))
    await cache.admit(entry("a"))
    there = entry("b")
    documents.tell(Put(Stored(held_of(there), there.checkpoint, None)), own=False)
    assert cache.exact(EntryId("a")) is not None
    documents.tell(Removed((EntryId("a"),), purged=False), own=False)
    assert (cache.exact(EntryId("a")), cache.facts().entries["default"]) == (None, 1)
    await closed(cache)


async def test_others_get_their_turn_while_memory_is_emptied_to_be_read_anew(
    documents: MemoryDocuments,
) -> None:
    cache = await opened(documents, Quota(2_000, 2**30))
    for number in range(1_000):
        documents.tell(Put(Stored(held_of(entry(f"e{number}")), CHECKPOINT, None)), own=False)
    turns = [1_000]

    async def watch() -> None:
        while turns[-1]:
            await asyncio.sleep(0)
            turns.append(sum(cache.facts().entries.values()))

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await cache.reload()
    await watching
    most = max(before - after for before, after in pairwise(turns))
    assert 0 < most <= 256  # some 2 ms
    await closed(cache)


async def test_what_was_purged_is_not_loaded_again_and_goes(documents: MemoryDocuments) -> None:
    cache = await opened(documents)
    for id in "abc":
        await cache.admit(entry(id))
    await cache.reload(lambda held: held.id == "b")
    assert [cache.exact(EntryId(id)) is not None for id in "abc"] == [True, False, True]
    assert documents.entries.keys() == {"a", "c"}
    await closed(cache)


async def test_the_collector_of_garbage_need_not_walk_what_is_held(tmp_path: Path) -> None:
    """A full collection stops the process: with a million entries that it walks, for seconds."""
    documents = SqliteDocuments.open(tmp_path)
    cache = await opened(documents, Quota(entries=2000, bytes=2**30))
    some = directions(1001)
    await cache.admit(entry("first", vector=some[0]))
    gc.collect()
    before = len(gc.get_objects())
    for n in range(1, 1001):
        await cache.admit(entry(f"held {n}", vector=some[n]))
    gc.collect()
    assert sum(cache.facts().entries.values()) == 1001
    assert len(gc.get_objects()) - before < 500
    await closed(cache)
    await documents.aclose()
