"""Quotas bound what is held, idle room is lent, and what was lent comes back where it went."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from store.entry import EntryId
from store.eviction import OVERFULL_AT_ONCE, Occupancy, Quota, Share
from store.worth import LEAST_COST, MOST_COST, SHELVES

LARGE = 10**6


def shares(**entries: int) -> dict[str, Share]:
    """Return shares of so many entries, with more bytes than anybody needs."""
    return {name: Share(Quota(count, LARGE)) for name, count in entries.items()}


def filled(occupancy: Occupancy, category: str, count: int, size: int = 10) -> Occupancy:
    """Add so many entries, named after their category."""
    for number in range(count):
        occupancy.add(EntryId(f"{category}{number}"), category, size, 1.0)
    return occupancy


def test_nobody_goes_while_there_is_room() -> None:
    occupancy = filled(Occupancy(shares(code=3)), "code", 2)
    assert occupancy.victims("code", 10) == []


def test_a_full_category_lets_its_own_worst_go() -> None:
    occupancy = filled(Occupancy(shares(code=3)), "code", 3)
    occupancy.touch(EntryId("code0"))
    assert occupancy.victims("code", 10) == ["code1"]


def test_bytes_push_out_as_many_as_it_takes_and_no_more() -> None:
    occupancy = filled(Occupancy({"code": Share(Quota(9, 40))}), "code", 4)
    assert occupancy.victims("code", 15) == ["code0", "code1"]
    assert occupancy.victims("code", 40) == ["code0", "code1", "code2", "code3"]


@pytest.mark.parametrize(
    ("category", "size", "victims"),
    [
        pytest.param("code", 40, [], id="as large as the quota"),
        pytest.param("code", 41, None, id="larger than the quota"),
        pytest.param("none", 1, None, id="a quota of no entries"),
        pytest.param("empty", 0, None, id="a quota of no bytes"),
        pytest.param("other", 1, None, id="unknown"),
    ],
)
def test_what_may_not_be_held_is_not_admitted(
    category: str, size: int, victims: list[EntryId] | None
) -> None:
    occupancy = Occupancy(
        {
            "code": Share(Quota(4, 40)),
            "none": Share(Quota(0, 40)),
            "empty": Share(Quota(4, 0)),
        }
    )
    assert occupancy.victims(category, size) == victims


def test_idle_room_is_lent() -> None:
    occupancy = filled(Occupancy(shares(code=2, chat=3)), "code", 4)
    assert occupancy.victims("code", 10) == []
    occupancy.add(EntryId("code4"), "code", 10, 1.0)
    assert occupancy.victims("code", 10) == ["code0"]
    assert occupancy.entries("code") == 5


def test_lent_room_is_taken_back_from_whoever_is_furthest_over() -> None:
    occupancy = Occupancy(shares(code=2, chat=10, docs=6))
    filled(filled(occupancy, "code", 5), "chat", 13)  # 1.5 and 0.3 times over
    assert occupancy.victims("docs", 10) == ["code0"]


def test_who_is_within_its_quota_loses_nothing_to_others() -> None:
    occupancy = Occupancy(shares(code=2, chat=4))
    filled(filled(occupancy, "code", 2), "chat", 4)
    for category in ("code", "chat"):
        assert occupancy.victims(category, 10) == [f"{category}0"]


def test_a_priority_of_two_keeps_twice_as_much_of_what_is_lent() -> None:
    rules = shares(code=2, chat=2, docs=6)
    dear = rules | {"code": Share(Quota(2, LARGE), priority=2.0)}
    for now, expected in ((rules, "code0"), (dear, "chat0")):
        occupancy = Occupancy(now)
        filled(filled(occupancy, "code", 5), "chat", 4)  # 1.5 and 1.0 times over
        filled(occupancy, "docs", 1)
        assert occupancy.victims("docs", 10) == [expected]


def test_a_priority_of_zero_gives_everything_back_first() -> None:
    rules = shares(code=2, chat=2, docs=6) | {"chat": Share(Quota(2, LARGE), priority=0.0)}
    occupancy = filled(filled(Occupancy(rules), "code", 7), "chat", 3)
    assert occupancy.victims("docs", 10) == ["chat0"]


@pytest.mark.parametrize("priority", [-1.0, math.nan, math.inf])
def test_a_priority_must_be_a_number_of_zero_or_more(priority: float) -> None:
    with pytest.raises(ValueError, match="priority"):
        Share(Quota(1, 1), priority=priority)


def test_bytes_are_taken_back_from_who_holds_bytes_and_not_from_who_has_many_small_ones() -> None:
    rules = {name: Share(Quota(10, 100)) for name in ("many", "large", "docs")}
    occupancy = filled(Occupancy(rules), "many", 20, size=1)
    filled(occupancy, "large", 7, size=40)
    assert occupancy.victims("docs", 50) == ["large0", "large1"]


def test_a_replaced_entry_makes_its_own_room_and_is_no_victim() -> None:
    occupancy = filled(Occupancy(shares(code=3)), "code", 3)
    assert occupancy.victims("code", 10, EntryId("code0")) == []
    assert occupancy.victims("code", 10, EntryId("stranger")) == ["code0"]
    by_bytes = filled(Occupancy({"code": Share(Quota(9, 30))}), "code", 3)
    assert by_bytes.victims("code", 15, EntryId("code0")) == ["code1"]


def test_asking_changes_nothing() -> None:
    occupancy = filled(Occupancy({"code": Share(Quota(9, 40))}), "code", 4)
    first = occupancy.victims("code", 35, EntryId("code2"))
    assert first == occupancy.victims("code", 35, EntryId("code2")) == ["code0", "code1", "code3"]
    assert (len(occupancy), occupancy.total_bytes) == (4, 40)


def test_adding_again_counts_once() -> None:
    occupancy = filled(Occupancy(shares(code=3, chat=3)), "code", 2)
    occupancy.add(EntryId("code0"), "code", 25, 1.0)
    assert (len(occupancy), occupancy.total_bytes) == (2, 35)
    occupancy.add(EntryId("code0"), "chat", 5, 1.0)
    assert (occupancy.entries("code"), occupancy.bytes("code")) == (1, 10)
    assert (occupancy.entries("chat"), occupancy.bytes("chat")) == (1, 5)


def test_an_entry_stored_again_keeps_its_hits() -> None:
    occupancy = filled(Occupancy(shares(code=3)), "code", 3)
    for _ in range(3):
        occupancy.touch(EntryId("code0"))
    occupancy.add(EntryId("code0"), "code", 10, 1.0)
    for id in ("code1", "code2"):
        occupancy.touch(EntryId(id))
    assert occupancy.victims("code", 10) == ["code1"]


def test_an_entry_stored_again_in_another_category_starts_without_hits() -> None:
    occupancy = filled(filled(Occupancy(shares(code=1, chat=2)), "code", 1), "chat", 2)
    for _ in range(9):
        occupancy.touch(EntryId("code0"))
    occupancy.add(EntryId("code0"), "chat", 10, 1.0)
    for id in ("chat0", "chat1", "chat0", "chat1"):
        occupancy.touch(EntryId(id))
    assert occupancy.victims("chat", 10) == ["code0"]


def test_strangers_are_neither_touched_nor_dropped() -> None:
    occupancy = filled(Occupancy(shares(code=3)), "code", 1)
    occupancy.touch(EntryId("z"))
    occupancy.drop(EntryId("z"))
    assert len(occupancy) == 1 and EntryId("z") not in occupancy
    assert (occupancy.entries("z"), occupancy.bytes("z"), occupancy.hits(EntryId("z"))) == (0, 0, 0)
    assert occupancy.hits(EntryId("code0")) == 1


def test_after_quotas_shrank_everybody_over_goes_in_slices() -> None:
    occupancy = filled(Occupancy(shares(code=1000)), "code", 1000)
    assert occupancy.overfull() == []
    occupancy.set_shares(shares(code=300, chat=100))
    assert occupancy.capacity.entries == 400
    slices = []
    while ids := occupancy.overfull():
        assert ids == occupancy.overfull()
        slices.append(ids)
        for id in ids:
            occupancy.drop(id)
    assert [len(ids) for ids in slices] == [OVERFULL_AT_ONCE, OVERFULL_AT_ONCE, 88]
    assert slices[0] == [f"code{number}" for number in range(OVERFULL_AT_ONCE)]
    assert len(occupancy) == 400


def test_while_quotas_have_shrunk_an_admission_makes_room_for_itself_only() -> None:
    occupancy = filled(Occupancy(shares(code=50, chat=50)), "code", 80)
    occupancy.set_shares(shares(code=5, chat=5))
    assert occupancy.victims("chat", 10) == ["code0"]
    assert occupancy.victims("code", 10) == ["code0"]


def test_a_category_that_is_gone_leaves_first_and_then_altogether() -> None:
    occupancy = filled(filled(Occupancy(shares(code=5, chat=5)), "code", 3), "chat", 7)
    occupancy.set_shares(shares(chat=8, docs=2))
    assert occupancy.victims("docs", 10) == ["code0"]
    assert occupancy.victims("code", 10) is None
    assert occupancy.overfull() == ["code0", "code1", "code2"]
    assert set(occupancy.categories) == {"code", "chat", "docs"}
    for id in occupancy.overfull():
        occupancy.drop(id)
    assert set(occupancy.categories) == {"chat", "docs"}
    assert occupancy.overfull() == []


def test_a_quota_set_to_zero_empties_the_category_though_there_is_room() -> None:
    occupancy = filled(Occupancy(shares(code=5, chat=5)), "code", 3)
    occupancy.set_shares(shares(code=0, chat=5))
    assert occupancy.overfull() == ["code0", "code1", "code2"]


def test_hits_leave_no_trace_in_size() -> None:
    occupancy = filled(Occupancy(shares(code=20)), "code", 20)
    before = parts_of(occupancy)
    for number in range(10_000):
        occupancy.touch(EntryId(f"code{number % 20}"))
    assert parts_of(occupancy) == before


def parts_of(occupancy: Occupancy) -> int:
    """Return how many things are kept: entries, shelves, what stands on them, what is aside."""
    rankings = occupancy._rankings.values()
    standing = [len(shelf) for ranking in rankings for shelf in ranking._shelves.values()]
    assert 0 not in standing
    return (
        len(occupancy._ranked)
        + sum(standing)
        + sum(ranking.shelves + len(ranking._aside) for ranking in rankings)
    )


class Known:
    """What the naive model knows of an entry."""

    def __init__(self, category: str, size: int, cost: float, clocks: list[float]) -> None:
        self.category = category
        self.size = size
        self.cost = min(max(cost, LEAST_COST), MOST_COST)
        self.clocks = clocks  # of its references

    def worth(self, now: float) -> float:
        """Recompute the worth from every reference."""
        return sum(2 ** (then - now) for then in self.clocks) * self.cost / self.size


CATEGORIES = ("code", "chat", "docs")
IDS = st.integers(0, 14).map(lambda number: EntryId(f"id{number}"))
SHARES = st.dictionaries(
    st.sampled_from(CATEGORIES),
    st.builds(
        Share,
        st.builds(Quota, st.integers(0, 5), st.integers(0, 90)),
        st.sampled_from([0.0, 0.5, 1.0, 1.0, 3.0]),
    ),
)


class Books(RuleBasedStateMachine):
    """Occupancy beside a model that recomputes every worth and every overshoot each time."""

    @initialize(shares=SHARES)
    def open(self, shares: dict[str, Share]) -> None:
        self.occupancy = Occupancy(shares)
        self.shares: Mapping[str, Share] = shares
        self.known: dict[EntryId, Known] = {}
        self.clocks = dict.fromkeys(CATEGORIES, 0.0)
        self.settled = True  # nothing is held that a change of shares left no room for

    @rule(
        id=IDS,
        category=st.sampled_from((*CATEGORIES, "unknown")),
        size=st.integers(1, 50),
        cost=st.sampled_from([0.0, 0.3, 1.0, 1.0, 7.0, math.inf]),
    )
    def offer(self, id: EntryId, category: str, size: int, cost: float) -> None:
        before = [self.held(resource) for resource in (0, 1)]
        victims = self.occupancy.victims(category, size, id)
        quota = self.quota(category)
        if quota[0] < 1 or size > quota[1]:
            assert victims is None
            return
        assert victims is not None and id not in victims
        earlier = self.known.pop(id, None)
        bounds = [max(self.capacity(r), before[r]) for r in (0, 1)]
        for victim in victims:
            self.check_victim(victim, category, (1, size), bounds)
            self.leave(victim)
        for resource, need in enumerate((1, size)):
            assert self.held(resource) + need <= bounds[resource]
        kept = earlier.clocks if earlier is not None and earlier.category == category else []
        self.known[id] = Known(category, size, cost, kept)
        self.occupancy.add(id, category, size, cost)
        self.refer(id)

    @rule(id=IDS)
    def serve(self, id: EntryId) -> None:
        self.occupancy.touch(id)
        if id in self.known:
            self.refer(id)

    @rule(id=IDS)
    def remove(self, id: EntryId) -> None:
        if id in self.known:
            self.leave(id)
        self.occupancy.drop(id)

    @rule(shares=SHARES)
    def change(self, shares: dict[str, Share]) -> None:
        self.occupancy.set_shares(shares)
        self.shares = shares
        self.settled = False

    @precondition(lambda self: not self.settled)
    @rule()
    def upkeep(self) -> None:
        while ids := self.occupancy.overfull():
            for id in ids:
                self.check_outstaying(id)
                self.leave(id)
        assert all(self.held(resource) <= self.capacity(resource) for resource in (0, 1))
        assert all(0 not in self.quota(known.category) for known in self.known.values())
        self.settled = True

    @invariant()
    def books_agree(self) -> None:
        assert len(self.occupancy) == self.held(0)
        assert self.occupancy.total_bytes == self.held(1)
        for category in CATEGORIES:
            assert self.occupancy.entries(category) == self.held(0, category)
            assert self.occupancy.bytes(category) == self.held(1, category)
        assert set(self.occupancy.categories) == {
            *self.shares,
            *(known.category for known in self.known.values()),
        }
        assert parts_of(self.occupancy) <= 3 * len(self.known)

    @invariant()
    def the_whole_is_bounded(self) -> None:
        if self.settled:
            assert all(self.held(resource) <= self.capacity(resource) for resource in (0, 1))

    def check_victim(
        self, victim: EntryId, asking: str, needs: tuple[int, int], bounds: list[int]
    ) -> None:
        """Room is short, it is for the victim's category to give, and it is the least there."""
        short = [r for r in (0, 1) if self.held(r) + needs[r] > bounds[r]]
        assert short, "a victim more than was needed"
        resource = short[0]
        giving = self.known[victim].category
        if self.held(resource, asking) + needs[resource] > self.quota(asking)[resource]:
            assert giving == asking
        else:
            assert self.held(resource, giving) > self.quota(giving)[resource]
            assert self.overshoot(giving, resource) == self.largest_overshoot(resource)
        self.check_least(victim)

    def check_outstaying(self, id: EntryId) -> None:
        barred = {
            known.category for known in self.known.values() if 0 in self.quota(known.category)
        }
        giving = self.known[id].category
        if barred:
            assert giving in barred
        else:
            over = [r for r in (0, 1) if self.held(r) > self.capacity(r)]
            assert self.overshoot(giving, over[0]) == self.largest_overshoot(over[0])
        self.check_least(id)

    def check_least(self, id: EntryId) -> None:
        category = self.known[id].category
        now = self.clocks[category]
        least = min(k.worth(now) for k in self.known.values() if k.category == category)
        assert self.known[id].worth(now) <= least * 2 ** (1 / SHELVES) * 1.000001

    def overshoot(self, category: str, resource: int) -> Fraction:
        quota = self.quota(category)[resource]
        excess = self.held(resource, category) - quota
        priority = self.shares[category].priority if category in self.shares else 0
        if excess > 0 and (not quota or not priority):
            return Fraction(LARGE)
        return Fraction(excess) / quota / Fraction(priority) if excess > 0 else Fraction(0)

    def largest_overshoot(self, resource: int) -> Fraction:
        return max(self.overshoot(category, resource) for category in CATEGORIES)

    def held(self, resource: int, category: str | None = None) -> int:
        some = [k for k in self.known.values() if category in (None, k.category)]
        return sum(known.size for known in some) if resource else len(some)

    def quota(self, category: str) -> tuple[int, int]:
        share = self.shares.get(category)
        return (share.quota.entries, share.quota.bytes) if share is not None else (0, 0)

    def capacity(self, resource: int) -> int:
        return sum(self.quota(category)[resource] for category in self.shares)

    def leave(self, id: EntryId) -> None:
        del self.known[id]
        self.occupancy.drop(id)

    def refer(self, id: EntryId) -> None:
        category = self.known[id].category
        self.clocks[category] += 1 / self.held(0, category)
        self.known[id].clocks.append(self.clocks[category])


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


@given(
    st.lists(st.tuples(st.sampled_from(CATEGORIES), st.integers(1, 40)), min_size=1, max_size=80)
)
def test_nobody_grows_beyond_the_own_quota_at_the_expense_of_others(
    offers: list[tuple[str, int]],
) -> None:
    quota = Quota(4, 80)
    occupancy = Occupancy({name: Share(quota) for name in CATEGORIES})
    owners: dict[EntryId, str] = {}
    for number, (category, size) in enumerate(offers):
        held = {name: (occupancy.entries(name), occupancy.bytes(name)) for name in CATEGORIES}
        victims = occupancy.victims(category, size) or []
        others = [owners.pop(id) for id in victims if owners[id] != category]
        for id in victims:
            occupancy.drop(id)
        id = EntryId(str(number))
        occupancy.add(id, category, size, 1.0)
        owners[id] = category
        within = (
            occupancy.entries(category) <= quota.entries or occupancy.bytes(category) <= quota.bytes
        )
        assert within or not others
        for other in others:
            assert held[other][0] > quota.entries or held[other][1] > quota.bytes
        assert len(occupancy) <= 3 * quota.entries
        assert occupancy.total_bytes <= 3 * quota.bytes
