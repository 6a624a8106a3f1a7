"""The book of examples: values decay, the least valuable leave, and replays go where they pay."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.example import TrackRecord
from icl.manager import (
    MOST_REPLAYS,
    Account,
    ExampleBook,
    expected_saving,
    plan_replays,
)
from store.entry import EntryId

HOUR = 3600.0
ONE, OTHER = EntryId("one"), EntryId("other")
ACCOUNTS = st.lists(
    st.builds(
        Account,
        id=st.integers(0, 10**6).map(lambda number: EntryId(str(number))),
        gain=st.floats(0.0, 1.0),
        offered=st.floats(0.0, 50.0),
        replays=st.integers(0, 8),
    ),
    unique_by=lambda account: account.id,
    max_size=30,
)


def test_an_unknown_entry_has_the_empty_record() -> None:
    assert ExampleBook().record(ONE, 0.0) == TrackRecord()
    assert ExampleBook().value(ONE, 0.0) == 0.0


@pytest.mark.parametrize(("hours", "left"), [(0, 1.0), (1, 0.9), (2, 0.81), (24, 0.9**24)])
def test_offers_decay_by_a_tenth_an_hour(hours: int, left: float) -> None:
    book = ExampleBook()
    book.offered(ONE, 1000.0)
    assert book.record(ONE, 1000.0 + hours * HOUR).offered == pytest.approx(left)


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=20), st.floats(0.0, 100.0))
def test_every_offer_decays_from_its_own_hour(hours: list[float], later: float) -> None:
    book, end = ExampleBook(), max(hours) + later
    for hour in sorted(hours):
        book.offered(ONE, hour * HOUR)
    expected = sum(0.9 ** (end - hour) for hour in hours)
    assert book.record(ONE, end * HOUR).offered == pytest.approx(expected)


def test_a_clock_that_steps_back_makes_nothing_grow() -> None:
    book = ExampleBook()
    book.offered(ONE, 100 * HOUR)
    assert book.record(ONE, 0.0).offered == 1.0
    book.offered(ONE, 0.0)
    assert book.record(ONE, 100 * HOUR).offered == 2.0


def test_quality_is_shrunk_to_a_half() -> None:
    book = ExampleBook()
    qualities = [book.record(ONE, 0.0).quality]
    for _ in range(100):
        book.helped(ONE, 1.0, 0.1, 0.0)
        qualities.append(book.record(ONE, 0.0).quality)
    assert qualities == sorted(qualities)
    assert qualities[:2] == [0.5, pytest.approx(2 / 3)]
    assert qualities[-1] > 0.95


@given(st.lists(st.floats(-1.0, 2.0), max_size=80))
def test_quality_stays_within_bounds(qualities: list[float]) -> None:
    book = ExampleBook()
    for quality in qualities:
        book.helped(ONE, quality, 0.3, 0.0)
    assert 0.0 <= book.record(ONE, 0.0).quality <= 1.0
    assert all(0.0 <= account.gain <= 0.3 for account in book.accounts(0.0))


def test_the_gain_is_the_missing_quality_times_the_cost() -> None:
    book = ExampleBook()
    book.helped(ONE, 0.25, 0.4, 0.0)
    assert book.accounts(0.0)[0].gain == pytest.approx(0.3)


def test_the_gain_follows_the_newest_answers() -> None:
    book = ExampleBook()
    for quality in [0.0] * 20 + [1.0] * 20:
        book.helped(ONE, quality, 1.0, 0.0)
    assert book.accounts(0.0)[0].gain < 0.05


def test_a_replay_counts_and_opens_the_gain_again() -> None:
    book = ExampleBook()
    book.helped(ONE, 0.0, 1.0, 0.0)
    book.replayed(ONE, 0.9)
    assert book.accounts(0.0) == []
    assert book.record(ONE, 0.0)[2:] == (0.9, 1)


def test_a_replay_of_an_entry_that_is_gone_is_no_entry() -> None:
    book = ExampleBook()
    book.replayed(ONE, 0.9)
    assert len(book) == 0


def test_what_the_answer_itself_is_worth_is_kept() -> None:
    book = ExampleBook()
    book.judged(ONE, 0.7, 0.0)
    assert book.record(ONE, 0.0).own_quality == 0.7


def test_an_example_that_helps_well_is_worth_more() -> None:
    book = ExampleBook()
    for id, quality in ((ONE, 1.0), (OTHER, 0.0)):
        book.offered(id, 0.0)
        book.helped(id, quality, 0.1, 0.0)
    assert book.value(ONE, 0.0) > book.value(OTHER, 0.0) > 0.0


@given(st.integers(1, 30), st.lists(st.integers(0, 60), max_size=200))
def test_the_book_never_grows_beyond_its_bound(most: int, offers: list[int]) -> None:
    book = ExampleBook(most=most)
    for at, number in enumerate(offers):
        book.offered(EntryId(str(number)), float(at))
        assert len(book) <= most


def test_the_least_valuable_leave() -> None:
    book = ExampleBook(most=10)
    for number in range(10):
        for _ in range(number + 1):
            book.offered(EntryId(str(number)), 0.0)
    for _ in range(3):
        book.offered(EntryId("new"), 0.0)
    assert book.value(EntryId("0"), 0.0) == 0.0
    assert book.value(EntryId("1"), 0.0) == 1.0
    assert book.value(EntryId("9"), 0.0) == 5.0
    assert book.value(EntryId("new"), 0.0) > 0.0


def test_entries_that_are_gone_are_forgotten() -> None:
    book = ExampleBook()
    book.offered(ONE, 0.0)
    assert ONE in book and ONE in list(book)
    book.forget([ONE, OTHER])
    assert ONE not in book
    assert len(book) == 0


def test_a_book_survives_as_json() -> None:
    book = ExampleBook()
    book.offered(ONE, 5.0)
    book.helped(ONE, 0.3, 0.2, 6.0)
    book.judged(OTHER, 0.8, 7.0)
    copy = ExampleBook.from_data(json.loads(json.dumps(book.as_data())))
    for id in (ONE, OTHER):
        assert copy.record(id, HOUR) == book.record(id, HOUR)
    assert copy.accounts(HOUR) == book.accounts(HOUR)


def test_a_smaller_book_takes_the_most_valuable_of_a_larger_one() -> None:
    book = ExampleBook()
    for number in range(20):
        for _ in range(number + 1):
            book.offered(EntryId(str(number)), 0.0)
    small = ExampleBook.from_data(book.as_data(), most=5)
    assert len(small) <= 5
    assert small.value(EntryId("19"), 0.0) == book.value(EntryId("19"), 0.0)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"version": 0, "pages": []},
        {"version": 1, "pages": [["one"]]},
        {"version": 1, "pages": [["one", "x", 0, 0, 0, None, None, 0]]},
        {"version": 1, "pages": [["one", float("nan"), 0, 0, 0, None, None, 0]]},
        {"version": 1, "pages": [["one", 1, 0, 0, 0, None, None, -1]]},
    ],
)
def test_data_that_cannot_be_read_makes_an_empty_book(data: object) -> None:
    assert len(ExampleBook.from_data(data)) == 0


def test_a_book_without_room_is_refused() -> None:
    with pytest.raises(ValueError):
        ExampleBook(most=0)


@given(ACCOUNTS, st.integers(0, 20), st.floats(0.0, 5.0))
def test_a_plan_holds_those_that_pay_by_gain(
    accounts: list[Account], most: int, cost: float
) -> None:
    planned = plan_replays(accounts, most, cost)
    by_id = {account.id: account for account in accounts}
    chosen = [by_id[id] for id in planned]
    gains = [account.gain for account in chosen]
    assert len(set(planned)) == len(planned) <= most
    assert gains == sorted(gains, reverse=True)
    assert all(account.replays < MOST_REPLAYS for account in chosen)
    assert all(expected_saving(account) >= cost for account in chosen)
    left = [
        account
        for account in accounts
        if account.id not in planned
        and account.replays < MOST_REPLAYS
        and expected_saving(account) >= cost
    ]
    assert not left or (len(planned) == most and all(a.gain <= min(gains, default=1) for a in left))


def test_the_order_of_accounts_does_not_matter_to_a_plan() -> None:
    accounts = [Account(EntryId(str(n)), 0.5, 3.0, 0) for n in range(5)]
    assert plan_replays(accounts, 3, 1.0) == plan_replays(accounts[::-1], 3, 1.0)


def test_an_example_that_nobody_needs_any_more_is_not_replayed() -> None:
    book = ExampleBook()
    book.offered(ONE, 0.0)
    book.helped(ONE, 0.0, 1.0, 0.0)
    assert plan_replays(book.accounts(0.0), 5, 0.5) == [ONE]
    assert plan_replays(book.accounts(10 * HOUR), 5, 0.5) == []


def test_an_entry_is_replayed_five_times_at_most() -> None:
    book, replays = ExampleBook(), 0
    for _ in range(10):
        book.offered(ONE, 0.0)
        book.helped(ONE, 0.0, 1.0, 0.0)
        for id in plan_replays(book.accounts(0.0), 5, 0.5):
            book.replayed(id, 0.1)
            replays += 1
    assert replays == MOST_REPLAYS
