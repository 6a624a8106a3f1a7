from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from store.hnsw import Graph
from tests.entries import DIMENSION, axis, directions, near

VECTORS = np.stack(directions(300))


def filled(count: int, capacity: int = 300) -> Graph:
    graph = Graph(DIMENSION, capacity)
    graph.add(range(count), VECTORS[:count])
    return graph


def test_an_empty_graph_finds_nothing() -> None:
    assert Graph(DIMENSION, 16).nearest(axis(0), 4) == []


def test_the_nearest_come_first_as_similarities() -> None:
    graph = Graph(DIMENSION, 16)
    graph.add([7, 8, 9], np.stack([near(0, 0.6), axis(0), axis(3)]))
    labels, cosines = zip(*graph.nearest(axis(0), 3), strict=True)
    assert labels == (8, 7, 9)
    np.testing.assert_allclose(cosines, [1, 0.6, 0], atol=1e-6)


def test_more_neighbours_than_there_are_is_no_error() -> None:
    assert len(filled(3).nearest(axis(0), 50)) == 3


def test_more_neighbours_than_the_search_is_broad_is_no_error() -> None:
    assert len(filled(200).nearest(axis(0), 150)) == 150


def test_buried_labels_are_not_returned_and_the_rest_still_is() -> None:
    graph = filled(200)
    graph.bury(range(195))
    assert {label for label, _ in graph.nearest(VECTORS[0], 10)} <= {195, 196, 197, 198, 199}
    graph.bury(range(195, 200))
    assert graph.nearest(VECTORS[0], 10) == []


def test_the_slots_of_buried_ones_are_not_used_again() -> None:
    graph = filled(100, capacity=100)
    graph.bury(range(60))
    with pytest.raises(RuntimeError, match="exceeds the specified limit"):
        graph.add([100], VECTORS[100:101])
    for label in range(60, 100):
        assert graph.nearest(VECTORS[label], 1)[0][0] == label


def test_vectors_come_back_as_they_went_in() -> None:
    np.testing.assert_array_equal(filled(20).fetch([3, 17]), VECTORS[[3, 17]])


def test_spares_are_asked_for_in_place_of_dead_ones_that_are_not_yet_buried() -> None:
    graph = filled(50)
    best = [label for label, _ in graph.nearest(axis(0), 3)]
    graph.dead.extend(best)
    found = [label for label, _ in graph.nearest(axis(0), 2)]
    assert found[:3] == best
    assert len(set(found) - set(best)) == 2


def test_it_counts_room_whoever_has_died() -> None:
    graph = Graph(DIMENSION, 100)
    graph.taken = 80
    assert graph.room == 20
    graph.live = 5
    assert graph.room == 20


@pytest.mark.parametrize(
    ("taken", "live", "sparse"),
    [
        pytest.param(80, 80, False, id="nobody has died"),
        pytest.param(80, 40, False, id="half have died"),
        pytest.param(80, 39, True, id="more have died than live"),
        pytest.param(100, 0, False, id="all have died, but they are few beside the capacity"),
        pytest.param(101, 0, True, id="all have died, and they are many"),
    ],
)
def test_it_is_sparse_when_the_dead_are_more_than_the_living_and_many(
    taken: int, live: int, sparse: bool
) -> None:
    graph = Graph(DIMENSION, 100 if taken == 80 else 800)
    graph.taken = taken
    graph.live = live
    assert graph.sparse is sparse


def test_searches_beside_changes_see_only_vectors_that_were_there() -> None:
    graph, stop = filled(100), threading.Event()

    def search_on() -> bool:
        right = True
        while not stop.is_set():
            for label, cosine in graph.nearest(VECTORS[5], 8):
                right &= abs(cosine - float(VECTORS[label] @ VECTORS[5])) < 1e-5
        return right

    with ThreadPoolExecutor(2) as threads:
        searches = [threads.submit(search_on) for _ in range(2)]
        for start in range(100, 300, 20):
            graph.add(range(start, start + 20), VECTORS[start : start + 20])
            graph.bury(range(start - 100, start - 80))
        stop.set()
        assert all(search.result(5) for search in searches)
