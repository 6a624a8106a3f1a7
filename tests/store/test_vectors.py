"""Vectors of two checkpoints: never compared, kept in step with what is held."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from store.cache import Cache
from store.documents.base import held_of
from store.entry import EntryId
from store.eviction import Quota, Share
from store.index import PartitionedIndex
from store.vectors import Made
from tests.entries import CHECKPOINT, DIMENSION, KEY, axis, entry
from tests.fakes_documents import MemoryDocuments

OTHER = "mini-2"
SMALL = 5  # numbers of a vector of the other checkpoint
A, B = EntryId("a"), EntryId("b")


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    cache = await Cache.open(
        MemoryDocuments(),
        index=PartitionedIndex(DIMENSION, threads=1),
        shares={"default": Share(Quota(100, 2**30), 1.0)},
        checkpoint=CHECKPOINT,
    )
    cache.vectors.open(OTHER, PartitionedIndex(SMALL, threads=1))
    yield cache
    await cache.aclose()
    for checkpoint in cache.vectors.checkpoints:
        await cache.vectors[checkpoint].index.aclose()


async def found(cache: Cache, checkpoint: str, number: int = 0) -> list[str]:
    dimension = cache.vectors[checkpoint].index.dimension
    near = await cache.similar(KEY, axis(number, dimension), checkpoint=checkpoint)
    return [candidate.held.id for candidate in near]


async def test_a_search_sees_the_vectors_of_its_own_checkpoint_only(cache: Cache) -> None:
    await cache.admit(entry("a", vector=axis(0)))
    await cache.admit(entry("b", vector=axis(0, SMALL), checkpoint=OTHER))
    assert await found(cache, CHECKPOINT) == ["a"]
    assert await found(cache, OTHER) == ["b"]
    assert await cache.similar(KEY, axis(0), checkpoint="mini-3") == []


async def test_an_early_search_sees_the_vectors_of_its_own_checkpoint_only(cache: Cache) -> None:
    await cache.admit(entry("a", vector=axis(0)))
    early = cache.vectors.early(CHECKPOINT, KEY, 4)
    assert early is not None
    assert [neighbor.id for neighbor in early.neighbors(early.run(axis(0)))] == ["a"]
    assert cache.vectors.early(OTHER, KEY, 4) is None
    assert cache.vectors.early("mini-3", KEY, 4) is None


async def test_an_entry_of_one_checkpoint_is_lacking_in_the_other_until_it_is_given(
    cache: Cache,
) -> None:
    await cache.admit(entry("a", vector=axis(0), earlier=("one",), earlier_vectors=(axis(1),)))
    held = cache.exact(A)
    assert held is not None
    assert cache.vectors.lacks(held, OTHER)
    assert not cache.vectors.lacks(held, CHECKPOINT)
    assert list(cache.vectors[OTHER].lacking) == ["a"]
    cache.vectors[OTHER].put(held, Made(axis(2, SMALL), (axis(3, SMALL),)))
    assert not cache.vectors.lacks(held, OTHER)
    assert list(cache.vectors[OTHER].lacking) == []
    assert await found(cache, OTHER, 2) == ["a"]
    ours, theirs = (cache.vectors.earlier(A, each) for each in (CHECKPOINT, OTHER))
    assert [vector.shape for vector in (*ours, *theirs) if vector is not None] == [
        (DIMENSION,),
        (SMALL,),
    ]


async def test_what_is_found_by_its_exact_key_only_lacks_nothing(cache: Cache) -> None:
    await cache.admit(entry("a", vector=None))
    held = cache.exact(A)
    assert held is not None
    assert not cache.vectors.lacks(held, OTHER)
    assert list(cache.vectors[OTHER].lacking) == []


async def test_what_is_removed_is_found_under_neither(cache: Cache) -> None:
    await cache.admit(entry("a", vector=axis(0)))
    await cache.admit(entry("b", vector=axis(0)))
    held = cache.exact(A)
    assert held is not None
    cache.vectors[OTHER].put(held, Made(axis(0, SMALL), ()))
    await cache.remove([A, B])
    assert await found(cache, CHECKPOINT) == await found(cache, OTHER) == []
    assert list(cache.vectors[OTHER].lacking) == []


async def test_what_is_stored_anew_lacks_the_other_vector_again(cache: Cache) -> None:
    await cache.admit(entry("a", vector=axis(0)))
    held = cache.exact(A)
    assert held is not None
    cache.vectors[OTHER].put(held, Made(axis(0, SMALL), ()))
    await cache.admit(entry("a", vector=axis(1), body=b"{}"))
    assert await found(cache, OTHER) == []
    assert list(cache.vectors[OTHER].lacking) == ["a"]


async def test_what_was_made_before_is_found_at_once() -> None:
    known = Made(axis(3, SMALL), ())
    cache = await Cache.open(
        MemoryDocuments(entry("a", vector=axis(0))),
        index=PartitionedIndex(SMALL, threads=1),
        shares={"default": Share(Quota(100, 2**30), 1.0)},
        checkpoint=OTHER,
        made=lambda held: known,
    )
    assert await found(cache, OTHER, 3) == ["a"]
    await cache.aclose()
    await cache.vectors[OTHER].index.aclose()


def test_vectors_of_another_length_are_refused(cache: Cache) -> None:
    held = held_of(entry("a"))
    with pytest.raises(ValueError, match="shape"):
        cache.vectors[OTHER].put(held, Made(axis(0), ()))
    with pytest.raises(ValueError, match="shape"):
        cache.vectors[OTHER].put(held, Made(axis(0, SMALL), (axis(0),)))


def test_there_are_two_indexes_at_most(cache: Cache) -> None:
    with pytest.raises(ValueError, match="no room"):
        cache.vectors.open("mini-3", PartitionedIndex(SMALL, threads=1))
    assert cache.vectors.drop(OTHER) is not None
    assert cache.vectors.drop(OTHER) is None
    assert cache.vectors.checkpoints == (CHECKPOINT,)
