"""What every VectorIndex does; one that another engine backs is added to INDEXES."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.entry import EntryId, PartitionKey, Vector
from store.index import PartitionedIndex, VectorIndex
from tests.entries import DIMENSION, KEY, OTHER_KEY, axis, directions, near

VECTORS = directions(300)
INDEXES: dict[str, Callable[[], VectorIndex]] = {
    "flat": lambda: PartitionedIndex(DIMENSION, threads=1),
    "graphs": lambda: PartitionedIndex(DIMENSION, promote_rows=8, threads=2),
}


@pytest.fixture(params=INDEXES)
async def index(request: pytest.FixtureRequest) -> AsyncIterator[VectorIndex]:
    index = INDEXES[request.param]()
    yield index
    await index.aclose()


def name(number: int) -> EntryId:
    return EntryId(f"e{number}")


async def found(
    index: VectorIndex, vector: Vector, k: int = 1, key: PartitionKey = KEY
) -> list[EntryId]:
    return [neighbor.id for neighbor in await index.search(key, vector, k)]


async def test_it_knows_its_dimension(index: VectorIndex) -> None:
    assert index.dimension == DIMENSION


async def test_neighbors_come_nearest_first_with_their_cosines(index: VectorIndex) -> None:
    index.put(KEY, name(1), near(0, 0.7))
    index.put(KEY, name(2), axis(0))
    index.put(KEY, name(3), axis(4))
    neighbors = await index.search(KEY, axis(0), 2)
    assert [neighbor.id for neighbor in neighbors] == ["e2", "e1"]
    np.testing.assert_allclose([n.similarity for n in neighbors], [1, 0.7], rtol=1e-5)


async def test_what_was_put_is_found_at_once(index: VectorIndex) -> None:
    for number, vector in enumerate(VECTORS):
        index.put(KEY, name(number), vector)
        if number % 10 == 0:
            assert await found(index, vector) == [name(number)]


async def test_a_vector_can_be_had_back_wherever_it_lies(index: VectorIndex) -> None:
    for number, vector in enumerate(VECTORS):
        index.put(KEY if number % 2 else OTHER_KEY, name(number), vector)
    if isinstance(index, PartitionedIndex):
        await index.settled()  # most have moved into graphs, where there are any
    index.remove(KEY, name(7))
    wanted = [(KEY if n % 2 else OTHER_KEY, name(n)) for n in range(0, 300, 7)]
    found = await index.fetch([*wanted, (KEY, name(2)), (PartitionKey("no", "body"), name(1))])
    assert list(found.keys() ^ {id for _, id in wanted}) == [name(7)]
    for id, vector in found.items():
        np.testing.assert_array_equal(vector, VECTORS[int(id[1:])])
    found[name(0)][:] = 0  # a copy: what is searched stays
    again = await index.fetch([(OTHER_KEY, name(0))])
    np.testing.assert_array_equal(again[name(0)], VECTORS[0])


async def test_what_was_removed_is_found_no_more_not_even_by_a_search_under_way(
    index: VectorIndex,
) -> None:
    for number, vector in enumerate(VECTORS):
        index.put(KEY, name(number), vector)
    search = asyncio.ensure_future(index.search(KEY, VECTORS[7], 300))
    await asyncio.sleep(0)
    assert index.remove(KEY, name(8))
    if not search.done():
        assert name(8) not in {neighbor.id for neighbor in await search}
    assert name(8) not in await found(index, VECTORS[8], 300)
    assert not index.remove(KEY, name(8))


async def test_a_second_put_moves_the_id(index: VectorIndex) -> None:
    index.put(KEY, name(1), axis(0))
    index.put(KEY, name(1), axis(5))
    assert index.count(KEY) == 1
    (only,) = await index.search(KEY, axis(5), 4)
    assert only.id == name(1)
    assert only.similarity == pytest.approx(1)


async def test_partitions_never_see_each_other_even_under_one_id(index: VectorIndex) -> None:
    index.put(KEY, name(1), axis(0))
    index.put(OTHER_KEY, name(1), axis(3))
    assert index.remove(KEY, name(1))
    assert await found(index, axis(3), 4) == []
    assert await found(index, axis(0), 4, OTHER_KEY) == [name(1)]
    assert (index.count(KEY), index.count(OTHER_KEY)) == (0, 1)


async def test_an_unknown_partition_is_empty(index: VectorIndex) -> None:
    assert await found(index, axis(0), 4) == []
    assert not index.remove(KEY, name(1))
    assert index.count(KEY) == 0


async def test_an_early_search_finds_what_was_there_and_is_there_still(index: VectorIndex) -> None:
    for number in range(40):
        index.put(KEY, name(number), VECTORS[number])
    if isinstance(index, PartitionedIndex):
        await index.settled()
    early = index.early(KEY, 3)
    assert early is not None
    index.remove(KEY, name(5))
    index.put(KEY, name(40), VECTORS[40])  # may be found or not
    found = await asyncio.to_thread(early.run, VECTORS[5])
    index.remove(KEY, name(6))
    assert not {"e5", "e6"} & {neighbor.id for neighbor in early.neighbors(found)}
    again = await asyncio.to_thread(early.run, VECTORS[7])
    assert early.neighbors(again)[0].id == "e7"


async def test_there_is_no_early_search_of_nothing(index: VectorIndex) -> None:
    assert index.early(KEY, 3) is None
    index.put(KEY, name(1), axis(0))
    assert index.early(OTHER_KEY, 3) is None
    assert index.early(KEY, 0) is None


@pytest.mark.parametrize("k", [0, -1])
async def test_no_neighbors_asked_for_are_none_given(index: VectorIndex, k: int) -> None:
    index.put(KEY, name(1), axis(0))
    assert await index.search(KEY, axis(0), k) == []


async def test_a_vector_that_does_not_fit_is_refused(index: VectorIndex) -> None:
    with pytest.raises(ValueError, match="shape"):
        index.put(KEY, name(1), axis(0, DIMENSION + 1))
    with pytest.raises(ValueError, match="unit length"):
        index.put(KEY, name(1), axis(0) * 3)
    assert index.count(KEY) == 0


async def test_the_callers_array_may_change_afterwards(index: VectorIndex) -> None:
    vector = axis(0)
    index.put(KEY, name(1), vector)
    vector[:] = axis(3)
    (only,) = await index.search(KEY, axis(0), 1)
    assert only.similarity == pytest.approx(1)


async def test_in_a_hurry_all_is_as_ever(index: VectorIndex) -> None:
    with index.hurry():
        for number, vector in enumerate(VECTORS):
            index.put(KEY, name(number), vector)
            if number % 50 == 0:
                await index.keep_pace()
        assert await found(index, VECTORS[7]) == [name(7)]
        assert index.remove(KEY, name(7))
    assert index.count(KEY) == len(VECTORS) - 1
    assert await found(index, VECTORS[9]) == [name(9)]
    assert name(7) not in await found(index, VECTORS[7], 300)


async def test_closing_twice_is_no_error(index: VectorIndex) -> None:
    await index.aclose()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "remove", "turn", "search"]),
        st.integers(min_value=0, max_value=30),
        st.integers(min_value=0, max_value=299),
        st.sampled_from([KEY, OTHER_KEY]),
    ),
    min_size=10,
    max_size=100,
)


@pytest.mark.parametrize("kind", INDEXES)
@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_after_any_history_it_finds_exactly_the_living(
    kind: str, steps: list[tuple[str, int, int, PartitionKey]]
) -> None:
    asyncio.run(live_through(INDEXES[kind](), steps))


async def live_through(index: VectorIndex, steps: list[tuple[str, int, int, PartitionKey]]) -> None:
    alive: dict[PartitionKey, dict[EntryId, Vector]] = {KEY: {}, OTHER_KEY: {}}
    for verb, number, vector, key in steps:
        if verb == "put":
            alive[key][name(number)] = VECTORS[vector]
            index.put(key, name(number), VECTORS[vector])
        elif verb == "remove":
            there = alive[key].pop(name(number), None) is not None
            assert index.remove(key, name(number)) == there
        elif verb == "turn":
            await asyncio.sleep(0)
        assert index.count(key) == len(alive[key])
        neighbors = await index.search(key, VECTORS[vector], 64)
        assert {neighbor.id for neighbor in neighbors} == alive[key].keys()
        for neighbor in neighbors:
            cosine = float(alive[key][neighbor.id] @ VECTORS[vector])
            assert abs(neighbor.similarity - cosine) < 1e-5
    await index.aclose()
