"""A serving event is found by its tenant and request id, for a day, and their number is bounded."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from proxy.events import (
    KEPT,
    LONGEST_QUESTION,
    ServingEvent,
    ServingEvents,
    event_from_bytes,
    event_to_bytes,
)
from store.entry import EntryId
from tests.entries import NOON


def event(query: str = "when?", id: str = "a") -> ServingEvent:
    return ServingEvent(NOON, EntryId(id), query, "when then?", 0.95, "default", True)


def test_an_event_is_found_by_its_own_tenant_only() -> None:
    events = ServingEvents()
    events.note("harbour", "req-1", event())
    assert events.find("harbour", "req-1", NOON) == event()
    assert events.find("airport", "req-1", NOON) is None
    assert events.find("harbour", "req-2", NOON) is None


def test_an_event_is_forgotten_after_a_day() -> None:
    events = ServingEvents()
    events.note("harbour", "req-1", event())
    assert events.find("harbour", "req-1", NOON + KEPT) is not None
    assert events.find("harbour", "req-1", NOON + KEPT + timedelta(seconds=1)) is None


def test_of_two_events_with_one_name_the_later_counts() -> None:
    events = ServingEvents()
    events.note("harbour", "req-1", event(id="a"))
    events.note("harbour", "req-1", event(id="b"))
    found = events.find("harbour", "req-1", NOON)
    assert found is not None
    assert found.entry_id == "b"
    assert len(events) == 1


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 500)), max_size=60))
def test_neither_events_nor_their_texts_grow_without_bound(asked: list[tuple[int, int]]) -> None:
    events = ServingEvents(max_events=10, max_characters=1000)
    for number, length in asked:
        events.note("harbour", str(number), event("x" * length))
    assert len(events) <= 10
    kept = [events.find("harbour", str(n), NOON) for n in range(21)]
    assert sum(len(e.query) + len(e.entry_query) for e in kept if e) <= 1000


texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ["a" * 10_001, "a" * 10_002, "a" * 20_000, "a" * 10_000 + "b"]
)


@given(texts, texts, st.booleans(), st.booleans())
def test_what_another_replica_is_told_says_the_same_of_the_answer(
    query: str, entry_query: str, hit: bool, same_past: bool
) -> None:
    one = ServingEvent(NOON, EntryId("a"), query, entry_query, 0.9, "faq", hit, same_past)
    told = event_from_bytes(event_to_bytes(one))
    assert (told.query == told.entry_query) == (query == entry_query)
    if max(len(query), len(entry_query)) <= LONGEST_QUESTION:
        assert told == one
    else:
        assert max(len(told.query), len(told.entry_query)) > LONGEST_QUESTION
        assert told._replace(query=query, entry_query=entry_query) == one
