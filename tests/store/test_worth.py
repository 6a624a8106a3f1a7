"""Worth is hits by cost by size; hits fade with traffic; searching for the least takes little."""

from __future__ import annotations

import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.entry import EntryId
from store.worth import (
    LEAST_COST,
    LONGEST_CLOCK,
    MOST_COST,
    MOVED_AT_ONCE,
    SHELVES,
    Ranked,
    Ranking,
    shelf_of,
)

SHELF = 2 ** (1 / SHELVES)  # how much more one worth may be than another on the same shelf


def ranking_of(count: int) -> tuple[Ranking, list[Ranked]]:
    """Return a category with entries of one size and cost, the oldest first."""
    ranking = Ranking("code")
    return ranking, [ranking.add(EntryId(str(number)), 10, 1.0) for number in range(count)]


def leaving(ranking: Ranking) -> list[str]:
    """Return everybody in their order of leaving."""
    gone: dict[Ranked, None] = {}
    while len(gone) < ranking.entries:
        gone[ranking.least(gone)] = None
    ranking.restore()
    return [ranked.id for ranked in gone]


def put_forward(ranking: Ranking, entries: list[Ranked], halvings: int) -> None:
    """Put the clock forward, and everybody's rank with it."""
    for ranked in entries:
        ranking.drop(ranked)
    ranking.clock += halvings
    for ranked in entries:
        ranked.rank += halvings
        ranking._count(1, ranked.size)
        ranking._put_up(ranked, shelf_of(ranked))


def test_alike_and_never_asked_for_the_oldest_leaves_first() -> None:
    ranking, _ = ranking_of(4)
    assert leaving(ranking) == ["0", "1", "2", "3"]


def test_a_hit_saves_the_oldest() -> None:
    ranking, entries = ranking_of(4)
    ranking.touch(entries[0])
    assert leaving(ranking) == ["1", "2", "3", "0"]


def test_two_hits_outlast_one_that_came_right_after() -> None:
    ranking, (_, one, two, *_) = ranking_of(10)
    ranking.touch(two)
    ranking.touch(two)
    ranking.touch(one)
    assert leaving(ranking)[-2:] == [one.id, two.id]


def test_many_old_hits_fade_before_a_few_new_ones() -> None:
    ranking, (old, new, *others) = ranking_of(10)
    for _ in range(8):
        ranking.touch(old)
    for _ in range(10):  # 100 references: ten halvings
        for other in others:
            ranking.touch(other)
        ranking.touch(new)
        ranking.touch(new)
    assert leaving(ranking)[0] == old.id


@pytest.mark.parametrize("held", [1, 4, 100])
def test_a_hit_is_half_as_much_after_as_many_references_as_are_held(held: int) -> None:
    ranking, (first, *_) = ranking_of(held)
    other = ranking.add(EntryId("other"), 10, 1.0)
    ranking.drop(other)
    before = first.rank - ranking.clock
    for _ in range(held):
        ranking.touch(other)
    assert first.rank - ranking.clock == pytest.approx(before - 1)


def test_hits_are_told_as_they_count_now() -> None:
    ranking, (first, *_, last) = ranking_of(4)
    assert ranking.hits(last) == pytest.approx(1)
    assert ranking.hits(first) < 1
    before = ranking.hits(first)
    ranking.touch(first)
    assert ranking.hits(first) == pytest.approx(before * 2**-0.25 + 1)
    assert ranking.hits(last) == pytest.approx(2**-0.25)


def test_dearer_ones_and_smaller_ones_stay_longer() -> None:
    ranking = Ranking("code")
    for id, size, cost in [("dear", 100, 9.0), ("plain", 100, 1.0), ("large", 900, 1.0)]:
        ranking.add(EntryId(id), size, cost)
    assert leaving(ranking) == ["large", "plain", "dear"]


def test_three_seconds_are_worth_as_much_as_three_hits_at_the_same_moment() -> None:
    ranking = Ranking("code")
    dear = ranking.add(EntryId("dear"), 10, 3.0)
    cheap = ranking.add(EntryId("cheap"), 10, 1.0)
    ranking.clock = 5.0
    for ranked, references in ((dear, 1), (cheap, 3)):
        ranked.rank = -math.inf
        for _ in range(references):
            ranking._step = 0.0  # all at once
            ranking.touch(ranked)
    assert dear.rank == pytest.approx(cheap.rank)


@pytest.mark.parametrize(
    ("cost", "counted"),
    [
        pytest.param(0.0, LEAST_COST, id="nothing"),
        pytest.param(-1.0, LEAST_COST, id="less than nothing"),
        pytest.param(math.nan, LEAST_COST, id="not a number"),
        pytest.param(math.inf, MOST_COST, id="endless"),
        pytest.param(2.5, 2.5, id="ordinary"),
    ],
)
def test_a_cost_beyond_reason_counts_as_the_bound(cost: float, counted: float) -> None:
    ranked = Ranking("code").add(EntryId("a"), 8, cost)
    assert ranked.weight == pytest.approx(math.log2(counted / 8))


def test_an_empty_answer_has_a_finite_worth() -> None:
    assert Ranking("code").add(EntryId("a"), 0, 1.0).weight == 0.0


def test_a_replaced_entry_hands_its_hits_on_at_the_new_cost_and_size() -> None:
    ranking, (first, *_) = ranking_of(3)
    for _ in range(4):
        ranking.touch(first)
    hits = 2 ** (first.rank - ranking.clock) / (1.0 / 10)
    ranking.drop(first)
    heir = ranking.add(first.id, 40, 2.0, first)
    handed_on = 2 ** (heir.rank - ranking.clock) / (2.0 / 40)
    assert handed_on == pytest.approx(1 + hits * 2 ** (-1 / 3))
    assert (ranking.entries, ranking.bytes) == (3, 10 + 10 + 40)


def test_whoever_was_put_aside_comes_back() -> None:
    ranking, entries = ranking_of(5)
    assert leaving(ranking) == leaving(ranking)
    assert ranking.least() is entries[0]
    ranking.drop(entries[0])
    assert ranking.least() is entries[1]


def test_hits_leave_the_shelves_alone_and_take_no_memory() -> None:
    ranking, entries = ranking_of(50)
    for ranked in entries:
        ranking.touch(ranked)
    shelves = ranking.shelves
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(400):
            for ranked in entries:
                ranking.touch(ranked)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 24 * len(entries) + 1000  # everybody's rank is another float
    assert ranking.shelves == shelves <= len(entries)


def test_a_search_moves_a_bounded_number_and_finds_one_of_the_lowest() -> None:
    ranking, entries = ranking_of(1000)
    for ranked in entries:
        ranking.touch(ranked)
    assert ranking.least() in entries[:MOVED_AT_ONCE]
    moved = sum(ranked.shelf == shelf_of(ranked) for ranked in entries)
    assert moved == MOVED_AT_ONCE


def test_further_searches_go_on_where_one_ended() -> None:
    ranking, entries = ranking_of(1000)
    for ranked in entries:
        ranking.touch(ranked)
    for _ in range(1000 // MOVED_AT_ONCE + 1):
        ranking.least()
    assert all(ranked.shelf == shelf_of(ranked) for ranked in entries)
    assert ranking.least() is entries[0]


def test_the_clock_starts_anew_before_it_loses_precision_and_nobody_notices() -> None:
    ranking, entries = ranking_of(6)
    for ranked in (entries[1], entries[4], entries[1]):
        ranking.touch(ranked)
    ahead = [ranked.rank - entries[0].rank for ranked in entries]
    order = leaving(ranking)
    put_forward(ranking, entries, LONGEST_CLOCK)
    ranking.drop(ranking.add(EntryId("late"), 10, 1.0))
    assert ranking.clock < 2
    assert [ranked.rank - entries[0].rank for ranked in entries] == pytest.approx(ahead)
    assert leaving(ranking) == order


def test_after_a_billion_references_order_and_fading_are_still_exact() -> None:
    ranking, entries = ranking_of(3)
    put_forward(ranking, entries, 10**9)
    twice, once, never = entries
    ranking.touch(twice)
    ranking.touch(twice)
    ranking.touch(once)
    assert leaving(ranking) == [never.id, once.id, twice.id]
    newcomer = ranking.add(EntryId("new"), 10, 1.0)
    assert ranking.clock < 2
    assert newcomer.rank == pytest.approx(ranking.clock - math.log2(10))
    assert leaving(ranking) == [never.id, "new", once.id, twice.id]


reference = st.tuples(
    st.sampled_from("abcdefgh"), st.integers(1, 50), st.floats(0.01, 60.0), st.integers(0, 3)
)


@given(st.lists(reference, max_size=80))
def test_the_order_is_that_of_worth_recomputed_from_the_definition(
    references: list[tuple[str, int, float, int]],
) -> None:
    ranking = Ranking("code")
    entries: dict[str, Ranked] = {}
    history: dict[str, list[float]] = {}  # clocks of the references
    clock = 0.0
    for name, size, cost, what in references:
        if name not in entries:
            entries[name] = ranking.add(EntryId(name), size, cost)
            history[name] = []
        elif what == 0:
            ranking.drop(entries.pop(name))
            continue
        else:
            ranking.touch(entries[name])
        clock += 1 / len(entries)
        history[name].append(clock)

    def worth(name: str) -> float:
        hits = sum(2 ** (then - clock) for then in history[name])
        return hits * 2 ** entries[name].weight

    left = set(entries)
    for id in leaving(ranking):
        assert worth(id) <= min(map(worth, left)) * SHELF * 1.000001
        left.remove(id)
    assert not left
    assert ranking.shelves <= ranking.entries == len(entries)
    assert ranking.bytes == sum(ranked.size for ranked in entries.values())
