from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from store.entry import EntryId
from store.eviction import Quota, Recency

A, B, C = EntryId("a"), EntryId("b"), EntryId("c")


def filled() -> Recency:
    recency = Recency()
    for id in (A, B, C):
        recency.add(id, 10)
    return recency


def test_nobody_goes_while_there_is_room() -> None:
    assert filled().victims(Quota(4, 40), 10) == []


def test_the_longest_unused_goes_first() -> None:
    recency = filled()
    recency.touch(A)
    assert recency.victims(Quota(3, 100), 10) == [B]
    assert recency.victims(Quota(2, 100), 10) == [B, C]


def test_bytes_push_out_as_many_as_it_takes() -> None:
    assert filled().victims(Quota(10, 30), 15) == [A, B]


def test_adding_again_counts_once_and_as_newest() -> None:
    recency = filled()
    recency.add(A, 25)
    assert (len(recency), recency.bytes) == (3, 45)
    assert recency.victims(Quota(3, 100), 1) == [B]


def test_dropping_makes_room() -> None:
    recency = filled()
    recency.drop(A)
    recency.drop(A)
    assert (len(recency), recency.bytes) == (2, 20)
    assert recency.victims(Quota(3, 100), 10) == []


def test_touching_a_stranger_does_not_let_it_in() -> None:
    recency = filled()
    recency.touch(EntryId("z"))
    assert len(recency) == 3


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30), st.booleans()), max_size=60),
    st.integers(1, 5),
    st.integers(30, 60),
)
def test_the_quota_holds_after_every_step_and_only_the_oldest_go(
    steps: list[tuple[int, int, bool]], entries: int, size_limit: int
) -> None:
    recency, order, quota = Recency(), dict[EntryId, int](), Quota(entries, size_limit)
    for number, size, only_touch in steps:
        id = EntryId(str(number))
        if only_touch:
            recency.touch(id)
            if id in order:
                order[id] = order.pop(id)
            continue
        recency.drop(id)
        order.pop(id, None)
        victims = recency.victims(quota, size)
        assert victims == list(order)[: len(victims)]
        for victim in victims:
            recency.drop(victim)
            del order[victim]
        recency.add(id, size)
        order[id] = size
        assert len(recency) == len(order) <= entries
        assert recency.bytes == sum(order.values()) <= size_limit
