from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import hnswlib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.entry import EntryId, PartitionKey, Vector
from store.hnsw import Graph
from store.index import INLINE_ROWS, MOVED_AT_ONCE, PartitionedIndex
from store.labels import SLOT_MASK
from store.partition import BURIED_AT_ONCE, KEPT_SHARE
from tests.entries import DIMENSION, KEY, OTHER_KEY, axis, directions, near

PROMOTE = 32  # rows from which these tests' partitions are large
VECTORS = directions(600)


def name(number: int) -> EntryId:
    return EntryId(f"e{number}")


def fill(index: PartitionedIndex, numbers: range) -> None:
    for number in numbers:
        index.put(KEY, name(number), VECTORS[number])


@pytest.fixture
async def index() -> AsyncIterator[PartitionedIndex]:
    index = PartitionedIndex(DIMENSION, promote_rows=PROMOTE, threads=2)
    yield index
    await index.aclose()


@contextmanager
def held_up(index: PartitionedIndex) -> Iterator[None]:
    """Keep the writer thread busy, so that vectors stay on their way."""
    release = threading.Event()
    index._writer.submit(release.wait, 10)
    try:
        yield
    finally:
        release.set()


def living(index: PartitionedIndex, graph: Graph) -> list[EntryId]:
    """Return who lives in the graph, by label."""
    labels = index._partitions[KEY].labels
    homes = index.labels.homes
    ids = [id for id, label in labels.items() if homes[label & SLOT_MASK] == graph.number]
    assert len(ids) == graph.live
    return sorted(ids, key=labels.__getitem__)


async def found(index: PartitionedIndex, vector: Vector, k: int = 1) -> list[EntryId]:
    return [neighbor.id for neighbor in await index.search(KEY, vector, k)]


async def test_neighbors_come_nearest_first(index: PartitionedIndex) -> None:
    index.put(KEY, name(1), near(0, 0.7))
    index.put(KEY, name(2), axis(0))
    index.put(KEY, name(3), axis(4))
    neighbors = await index.search(KEY, axis(0), 2)
    assert [neighbor.id for neighbor in neighbors] == ["e2", "e1"]
    np.testing.assert_allclose([n.similarity for n in neighbors], [1, 0.7], rtol=1e-6)


async def test_partitions_never_see_each_other(index: PartitionedIndex) -> None:
    index.put(KEY, name(1), axis(0))
    index.put(OTHER_KEY, name(2), axis(0))
    assert await found(index, axis(0), 10) == ["e1"]
    assert not index.remove(OTHER_KEY, name(1))
    assert index.count(KEY) == 1


async def test_an_unknown_partition_costs_nothing_and_leaves_nothing(
    index: PartitionedIndex,
) -> None:
    assert await index.search(KEY, axis(0), 4) == []
    assert not index.remove(KEY, name(1))
    assert index.count(KEY) == 0
    assert index.partitions == 0


async def test_an_emptied_partition_is_dropped(index: PartitionedIndex) -> None:
    index.put(KEY, name(1), axis(0))
    assert index.remove(KEY, name(1))
    assert index.partitions == 0


async def test_a_second_put_moves_the_id(index: PartitionedIndex) -> None:
    index.put(KEY, name(1), axis(0))
    index.put(KEY, name(1), axis(5))
    assert index.count(KEY) == 1
    (only,) = await index.search(KEY, axis(5), 4)
    assert only == (name(1), 1.0)


async def test_no_neighbors_asked_for_are_none_given(index: PartitionedIndex) -> None:
    index.put(KEY, name(1), axis(0))
    assert await index.search(KEY, axis(0), 0) == []


async def test_a_similarity_is_never_above_one(index: PartitionedIndex) -> None:
    fill(index, range(20))
    for vector in VECTORS[:20]:
        assert (await index.search(KEY, vector, 1))[0].similarity <= 1.0


async def test_a_vector_that_does_not_fit_is_refused(index: PartitionedIndex) -> None:
    with pytest.raises(ValueError, match=r"shape \(8,\)"):
        index.put(KEY, name(1), axis(0, 9))
    with pytest.raises(ValueError, match="unit length"):
        index.put(KEY, name(1), axis(0) * 3)
    assert index.partitions == 0


async def test_a_large_partition_moves_into_a_graph_and_finds_everyone(
    index: PartitionedIndex,
) -> None:
    fill(index, range(200))
    await index.settled()
    partition = index._partitions[KEY]
    assert len(partition.flat) == 0
    assert sum(graph.live for graph in partition.graphs) == 200
    assert [await found(index, VECTORS[n]) for n in range(200)] == [[name(n)] for n in range(200)]


async def test_a_partition_at_the_limit_stays_flat(index: PartitionedIndex) -> None:
    fill(index, range(PROMOTE))
    await index.settled()
    assert not index._partitions[KEY].graphs


async def test_a_full_graph_gets_a_larger_one_beside_it(index: PartitionedIndex) -> None:
    fill(index, range(PROMOTE + 1))
    await index.settled()
    fill(index, range(PROMOTE + 1, 500))
    await index.settled()
    graphs = index._partitions[KEY].graphs
    assert len(graphs) > 1
    assert [graph.capacity for graph in graphs] == sorted(graph.capacity for graph in graphs)
    assert [await found(index, VECTORS[n]) for n in range(500)] == [[name(n)] for n in range(500)]


async def test_vectors_on_their_way_into_a_graph_are_found(index: PartitionedIndex) -> None:
    with held_up(index):
        fill(index, range(100))
        await asyncio.sleep(0)
        for number in range(100):
            assert await found(index, VECTORS[number]) == [name(number)]


async def test_a_removal_on_the_way_into_a_graph_is_final(index: PartitionedIndex) -> None:
    with held_up(index):
        fill(index, range(100))
        await asyncio.sleep(0)  # the first vectors have been handed to the writer thread
        for number in range(0, 100, 2):
            assert index.remove(KEY, name(number))
    await index.settled()
    assert set(await found(index, axis(0), 100)) == {name(n) for n in range(1, 100, 2)}
    assert index.count(KEY) == 50
    partition = index._partitions[KEY]
    assert sum(graph._present for graph in partition.graphs) + len(partition.flat) == 50


async def test_a_replacement_on_the_way_into_a_graph_wins(index: PartitionedIndex) -> None:
    with held_up(index):
        fill(index, range(100))
        await asyncio.sleep(0)
        for number in range(100):
            index.put(KEY, name(number), VECTORS[number + 100])
    await index.settled()
    for number in range(100):
        (nearest,) = await index.search(KEY, VECTORS[number + 100], 1)
        assert nearest.id == name(number)
        assert nearest.similarity == pytest.approx(1.0)
        assert all(
            neighbor.similarity < 0.9999 for neighbor in await index.search(KEY, VECTORS[number], 2)
        )


async def test_a_partition_emptied_on_the_way_into_a_graph_stays_empty(
    index: PartitionedIndex,
) -> None:
    with held_up(index):
        fill(index, range(100))
        await asyncio.sleep(0)
        for number in range(100):
            index.remove(KEY, name(number))
    await index.settled()
    assert index.partitions == 0
    assert await index.search(KEY, VECTORS[0], 4) == []


async def test_removed_ids_are_gone_at_once_while_the_graph_still_has_them(
    index: PartitionedIndex,
) -> None:
    fill(index, range(100))
    await index.settled()
    with held_up(index):
        for number in range(40):
            index.remove(KEY, name(number))
        for number in range(40):
            neighbors = await found(index, VECTORS[number], 4)
            assert neighbors
            assert not {name(gone) for gone in range(40)} & set(neighbors)


async def test_a_search_under_way_does_not_return_what_is_removed_meanwhile(
    index: PartitionedIndex,
) -> None:
    fill(index, range(100))
    await index.settled()
    search = asyncio.ensure_future(index.search(KEY, VECTORS[7], 100))
    await asyncio.sleep(0)  # it is in its thread
    index.remove(KEY, name(7))
    assert name(7) not in [neighbor.id for neighbor in await search]


async def test_constant_replacement_needs_no_more_room_in_the_end(
    index: PartitionedIndex,
) -> None:
    fill(index, range(PROMOTE + 8))
    await index.settled()
    for number in range(PROMOTE + 8, 600):  # far more than fit, never many at a time
        index.remove(KEY, name(number - PROMOTE - 8))
        index.put(KEY, name(number), VECTORS[number])
        await index.settled()
    graphs = index._partitions[KEY].graphs
    assert len(graphs) <= 3
    assert sum(graph.capacity for graph in graphs) <= 3 * 2 * (PROMOTE + 8)
    for number in range(600 - PROMOTE - 8, 600):
        assert await found(index, VECTORS[number]) == [name(number)]


async def test_those_who_move_out_of_a_graph_do_not_pile_up_in_the_matrix(
    index: PartitionedIndex,
) -> None:
    fill(index, range(300))
    await index.settled()
    partition = index._partitions[KEY]
    for graph in partition.graphs:
        for id in living(index, graph)[: graph.live * 2 // 3]:
            index.remove(KEY, id)
    most = 0
    while index._work is not None and not index._work.done():
        await asyncio.sleep(0)
        most = max(most, len(partition.flat))
    assert 0 < most <= PROMOTE // KEPT_SHARE + MOVED_AT_ONCE
    survivors = [int(id[1:]) for id in partition.labels]
    assert len(survivors) > PROMOTE
    assert [await found(index, VECTORS[n]) for n in survivors] == [[name(n)] for n in survivors]


async def test_the_dead_of_a_graph_are_buried_together(index: PartitionedIndex) -> None:
    fill(index, range(100))
    await index.settled()
    partition = index._partitions[KEY]
    (graph,) = [graph for graph in partition.graphs if graph.live > 2 * BURIED_AT_ONCE]
    doomed = living(index, graph)[:BURIED_AT_ONCE]
    for id in doomed[1:]:
        index.remove(KEY, id)
    await index.settled()
    assert len(graph.dead) == BURIED_AT_ONCE - 1
    index.remove(KEY, doomed[0])
    await index.settled()
    assert not graph.dead
    assert not set(doomed) & set(await found(index, VECTORS[int(doomed[0][1:])], 100))


async def test_the_dead_of_ids_that_are_put_again_are_buried_too() -> None:
    index = PartitionedIndex(DIMENSION, promote_rows=32 * KEPT_SHARE, threads=1)
    fill(index, range(35 * KEPT_SHARE))
    await index.settled()
    partition = index._partitions[KEY]
    (graph,) = partition.graphs
    for id in living(index, graph)[:BURIED_AT_ONCE]:
        index.put(KEY, id, VECTORS[599])
    assert not partition.overflows(32 * KEPT_SHARE)  # which would be a reason of its own
    await index.settled()
    assert not graph.dead
    await index.aclose()


async def test_background_work_rests_as_long_as_it_works(
    index: PartitionedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked = []

    class Slow(hnswlib.Index):  # type: ignore[misc]
        def add_items(self, *vectors: Any, **how: Any) -> None:
            time.sleep(0.002)
            worked.append(0.002)
            super().add_items(*vectors, **how)

    monkeypatch.setattr(hnswlib, "Index", Slow)
    started = time.monotonic()
    fill(index, range(200))
    await index.settled()
    assert len(worked) >= 60
    assert time.monotonic() - started >= 2 * sum(worked)


async def test_a_partition_that_shrinks_becomes_flat_again(index: PartitionedIndex) -> None:
    fill(index, range(300))
    await index.settled()
    for number in range(295):
        index.remove(KEY, name(number))
    await index.settled()
    assert not index._partitions[KEY].graphs
    assert set(await found(index, axis(0), 10)) == {name(n) for n in range(295, 300)}


async def test_a_graph_that_is_mostly_dead_moves_its_living_out(index: PartitionedIndex) -> None:
    fill(index, range(PROMOTE + 1))
    await index.settled()
    (first,) = index._partitions[KEY].graphs
    fill(index, range(PROMOTE + 1, 600))
    await index.settled()
    survivors = living(index, first)[:3]
    for id in living(index, first)[3:]:
        index.remove(KEY, id)
    await index.settled()
    assert first not in index._partitions[KEY].graphs
    for survivor in survivors:
        assert await found(index, VECTORS[int(survivor[1:])]) == [survivor]


async def test_a_graph_that_fails_leaves_its_vectors_findable(
    index: PartitionedIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(Graph, "add", fail)
        fill(index, range(60))
        await index.settled()
    assert "the next put tries again" in caplog.text
    assert [await found(index, VECTORS[n]) for n in range(60)] == [[name(n)] for n in range(60)]
    fill(index, range(60, 61))
    await index.settled()
    assert len(index._partitions[KEY].flat) == 0
    assert [await found(index, VECTORS[n]) for n in range(61)] == [[name(n)] for n in range(61)]


async def test_small_sets_are_searched_without_a_thread(index: PartitionedIndex) -> None:
    fill(index, range(PROMOTE))
    with ThreadPoolExecutor(1) as closed:
        pass
    index._searchers, threads = closed, index._searchers
    try:
        assert await found(index, VECTORS[3]) == [name(3)]
    finally:
        index._searchers = threads


async def test_large_flat_sets_are_searched_in_a_thread() -> None:
    index = PartitionedIndex(DIMENSION)
    fill(index, range(INLINE_ROWS + 1))
    index._searchers.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        await index.search(KEY, VECTORS[3], 1)
    await index.aclose()


async def test_closing_in_the_middle_of_a_promotion_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    index = PartitionedIndex(DIMENSION, promote_rows=PROMOTE)
    fill(index, range(600))
    await index.search(KEY, VECTORS[0], 1)
    await index.aclose()
    await index.aclose()
    started = set(threading.enumerate()) - before
    assert not [thread for thread in started if thread.name.startswith("nearhit")]


async def test_searches_beside_every_kind_of_change_never_return_the_dead_or_a_wrong_cosine(
    index: PartitionedIndex,
) -> None:
    dice = random.Random(5)
    now: dict[EntryId, Vector] = {}
    done = False

    async def search_on() -> int:
        searches = 0
        while not done:
            query = VECTORS[dice.randrange(600)]
            neighbors = await index.search(KEY, query, 5)
            assert len({n.id for n in neighbors}) == len(neighbors)
            for neighbor in neighbors:
                assert neighbor.id in now
                assert abs(neighbor.similarity - float(now[neighbor.id] @ query)) < 1e-5
            searches += 1
            await asyncio.sleep(0)
        return searches

    searchers = [asyncio.create_task(search_on()) for _ in range(4)]
    for _ in range(1500):
        id = name(dice.randrange(150))
        if dice.random() < 0.35:
            assert index.remove(KEY, id) == (now.pop(id, None) is not None)
        else:
            now[id] = VECTORS[dice.randrange(600)]
            index.put(KEY, id, now[id])
        if dice.random() < 0.3:
            await asyncio.sleep(0)
    await index.settled()
    done = True
    assert all(count > 3 for count in await asyncio.gather(*searchers))
    assert index.count(KEY) == len(now)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "remove", "turn", "settle"]),
        st.integers(min_value=0, max_value=39),
        st.integers(min_value=0, max_value=599),
        st.sampled_from([KEY, OTHER_KEY]),
    ),
    min_size=20,
    max_size=150,
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_after_any_history_a_partition_holds_exactly_its_living(
    steps: list[tuple[str, int, int, PartitionKey]],
) -> None:
    asyncio.run(live_through(steps))


async def live_through(steps: list[tuple[str, int, int, PartitionKey]]) -> None:
    index = PartitionedIndex(DIMENSION, promote_rows=8, threads=1)
    alive: dict[PartitionKey, dict[EntryId, Vector]] = {KEY: {}, OTHER_KEY: {}}
    for verb, number, vector, key in steps:
        if verb == "put":
            alive[key][name(number)] = VECTORS[vector]
            index.put(key, name(number), VECTORS[vector])
        elif verb == "remove":
            was_there = alive[key].pop(name(number), None) is not None
            assert index.remove(key, name(number)) == was_there
        elif verb == "turn":
            await asyncio.sleep(0)
        else:
            await index.settled()
        await agrees(index, key, alive[key], VECTORS[vector])
    await index.settled()
    for key in (KEY, OTHER_KEY):
        await agrees(index, key, alive[key], VECTORS[0])
    assert index.partitions == sum(map(bool, alive.values()))
    await index.aclose()


async def agrees(
    index: PartitionedIndex, key: PartitionKey, alive: dict[EntryId, Vector], query: Vector
) -> None:
    assert index.count(key) == len(alive)
    neighbors = await index.search(key, query, 64)
    assert {neighbor.id for neighbor in neighbors} == alive.keys()
    cosines = [neighbor.similarity for neighbor in neighbors]
    assert cosines == sorted(cosines, reverse=True)
    for neighbor in neighbors:
        assert abs(neighbor.similarity - float(alive[neighbor.id] @ query)) < 1e-5


async def test_in_a_hurry_one_graph_grows_and_takes_many_in_one_turn(
    index: PartitionedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, add_many = list[int](), Graph.add_many

    def counted(
        graph: Graph, labels: Sequence[int], vectors: npt.NDArray[np.float32], threads: int
    ) -> None:
        turns.append(len(labels))
        assert threads == 2
        add_many(graph, labels, vectors, threads)

    monkeypatch.setattr(Graph, "add_many", counted)
    with index.hurry():
        for start in range(0, 600, 100):
            fill(index, range(start, start + 100))
            await index.settled()
    (graph,) = index._partitions[KEY].graphs
    assert (graph.live, sum(turns)) == (600, 600)
    assert 600 <= graph.capacity <= 900
    assert len(turns) < 600 // MOVED_AT_ONCE
    assert [await found(index, VECTORS[n]) for n in range(600)] == [[name(n)] for n in range(600)]
    fill(index, range(5))
    await index.settled()
    assert len(turns) < 600 // MOVED_AT_ONCE


async def test_whoever_keeps_pace_waits_until_few_wait_for_their_graph(
    index: PartitionedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.index.BACKLOG", 50)
    monkeypatch.setattr("store.index.HURRIED_AT_ONCE", 20)
    await index.keep_pace()  # nothing to do
    with index.hurry():
        fill(index, range(300))
        await index.keep_pace()
        assert 30 < len(index._partitions[KEY].flat) <= 50
        assert index._work is not None
        assert not index._work.done()


async def test_keeping_pace_ends_when_a_graph_takes_no_more(
    index: PartitionedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("store.index.BACKLOG", 50)
    monkeypatch.setattr(Graph, "add_many", fail)
    with index.hurry():
        fill(index, range(300))
        await asyncio.wait_for(index.keep_pace(), 10)
    assert await found(index, VECTORS[7]) == [name(7)]


async def test_inside_still_no_vector_is_on_its_way_and_searches_go_on(
    index: PartitionedIndex,
) -> None:
    fill(index, range(200))
    await asyncio.sleep(0)
    async with index.still():
        (graph,) = index._partitions[KEY].graphs
        taken = graph.taken
        assert taken == graph.live
        assert await found(index, VECTORS[7]) == [name(7)]
        fill(index, range(200, 300))
        assert await found(index, VECTORS[250]) == [name(250)]
        assert graph.taken == taken
    await index.settled()
    assert len(index._partitions[KEY].flat) <= PROMOTE // KEPT_SHARE
