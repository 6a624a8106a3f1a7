from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import labels
from store.entry import EntryId
from store.labels import MATRIX, Labels


def name(number: int) -> EntryId:
    return EntryId(f"e{number}")


def test_a_label_stands_for_its_id_until_it_dies() -> None:
    table = Labels()
    label = table.give(name(1))
    assert table.owner(label) == name(1)
    assert label in table
    assert table.drop(label) == MATRIX
    assert table.owner(label) is None
    assert label not in table


def test_a_slot_is_used_again_under_another_label() -> None:
    table = Labels()
    first = table.give(name(1))
    table.drop(first)
    second = table.give(name(2))
    assert second != first
    assert table.owner(first) is None
    assert table.owner(second) == name(2)
    assert len(table.owners) == 1


def test_a_label_that_dies_in_a_graph_says_where_and_its_slot_begins_in_a_matrix() -> None:
    table = Labels()
    label, graph = table.give(name(1)), table.next_graph()
    table.house(label, graph)
    assert table.drop(label) == graph
    assert table.drop(table.give(name(2))) == MATRIX


def test_graphs_have_numbers_of_their_own() -> None:
    table = Labels()
    assert [table.next_graph(), table.next_graph()] == [1, 2]


def test_the_living_of_a_graph_are_found_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "SCANNED_AT_ONCE", 4)
    table = Labels()
    given_out = [table.give(name(number)) for number in range(20)]
    graph = table.next_graph()
    for label in given_out[9:15]:
        table.house(label, graph)
    table.drop(given_out[9])
    found, start = [], 0
    while True:
        some, start = table.some_in(graph, 2, start)
        if not some:
            break
        assert len(some) <= 2
        found += some
        for label in some:
            table.house(label, MATRIX)
    assert found == given_out[10:15]
    assert start == 0


@given(st.lists(st.integers(min_value=0, max_value=9)))
def test_no_label_is_ever_given_out_twice_and_the_table_is_as_long_as_most_lived(
    numbers: list[int],
) -> None:
    table = Labels()
    alive: dict[int, int] = {}
    seen: set[int] = set()
    most = 0
    for number in numbers:
        if number in alive:
            table.drop(alive.pop(number))
        else:
            alive[number] = table.give(name(number))
            assert alive[number] not in seen
            seen.add(alive[number])
        most = max(most, len(alive))
        assert {label for label in seen if label in table} == set(alive.values())
    assert len(table.owners) == most
