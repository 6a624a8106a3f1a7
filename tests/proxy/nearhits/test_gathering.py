"""Examples are of the same tenant, and unless both categories say otherwise of the same asker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from icl.example import Example, TrackRecord
from icl.shown import Shown
from proxy.call import Call
from proxy.nearhits import gathering
from proxy.nearhits.gathering import Gatherer, may_show
from store.cache import Cache
from store.entry import Candidate, EntryId
from store.policy import Mode, Offload, Policy, Scope
from store.quarantine import EVERYBODY, Quarantine
from tests.entries import NOON
from tests.fakes_documents import MemoryDocuments
from tests.proxy.nearhits.calls import TENANT, Shelf, call_of, near_by

USER = replace(TENANT, example_scope=Scope.USER)


def quarantine(*held: tuple[str, str]) -> Quarantine:
    stopped = [(EntryId(id), tenant) for id, tenant in held]
    return Quarantine(MemoryDocuments().records, stopped)


def may(
    candidate: Candidate, *policies: Policy, asker: str = "u", stopped: Any = (), **call: Any
) -> bool:
    return may_show(call_of(*policies, **call), asker, candidate, NOON, quarantine(*stopped))


def test_an_entry_of_the_tenant_s_is_shown() -> None:
    assert may(near_by("a"))


def test_another_tenant_s_is_not_whatever_its_scope_or_approval() -> None:
    assert not may(near_by("a", tenant="quay"))
    shared = replace(TENANT, scope=Scope.SHARED)
    assert not may(near_by("a", tenant="quay", shared_key="s", approved=True), shared)
    assert may(near_by("a", shared_key="s"), shared)


@pytest.mark.parametrize("mine", [Scope.USER, Scope.TENANT])
@pytest.mark.parametrize("theirs", [Scope.USER, Scope.TENANT])
def test_another_asker_s_is_shown_only_where_both_categories_say_so(
    mine: Scope, theirs: Scope
) -> None:
    policies = (
        replace(TENANT, example_scope=mine),
        replace(TENANT, name="other", example_scope=theirs),
    )
    open_to_all = mine is theirs is Scope.TENANT
    entry = near_by("a", category="other")
    assert may(entry, *policies, asker="u")
    assert may(entry, *policies, asker="somebody else") is open_to_all
    assert may(near_by("a", category="other", user=""), *policies, asker="") is open_to_all


@pytest.mark.parametrize("tenant", ["harbour", "quay", EVERYBODY])
def test_what_is_quarantined_for_anybody_is_shown_to_nobody(tenant: str) -> None:
    assert not may(near_by("a"), stopped=[("a", tenant)])
    assert may(near_by("a"), stopped=[("b", tenant)])


@pytest.mark.parametrize(
    "theirs",
    [
        {"mode": Mode.EXACT},
        {"mode": Mode.OFF},
        {"offload": Offload.OFF},
        {"scope": Scope.USER},
        {"near_threshold": 0.81},
        {"ttl": timedelta(seconds=59)},
    ],
)
def test_the_entry_s_own_category_has_a_say(theirs: dict[str, Any]) -> None:
    other = replace(TENANT, name="other")
    assert may(near_by("a", category="other"), TENANT, other)
    assert not may(near_by("a", category="other"), TENANT, replace(other, **theirs))


def test_an_entry_whose_category_is_gone_is_not_shown() -> None:
    assert not may(near_by("a", category="gone"))


@pytest.mark.parametrize(("mine", "theirs"), [(0.7, 0.5), (0.5, 0.7)])
def test_the_stricter_near_threshold_of_both_counts_and_is_inclusive(
    mine: float, theirs: float
) -> None:
    policies = (
        replace(TENANT, near_threshold=mine),
        replace(TENANT, name="other", near_threshold=theirs),
    )
    assert may(near_by("a", 0.7, category="other"), *policies)
    assert not may(near_by("a", 0.699, category="other"), *policies)


def test_what_has_expired_is_not_shown() -> None:
    short = replace(TENANT, ttl=timedelta(minutes=1))
    assert may(near_by("a"), short)
    assert not may(near_by("a", created_at=NOON - timedelta(seconds=61)), short)


def test_the_client_s_max_age_holds_for_examples() -> None:
    assert may(near_by("a"), headers={b"cache-control": b"max-age=60"})
    assert not may(near_by("a"), headers={b"cache-control": b"max-age=59"})


def test_an_answer_after_another_past_is_not_shown() -> None:
    turns = [
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And then?"},
    ]
    body = {"messages": turns}
    assert may(near_by("a", earlier=("Hello?",)), body=body)
    assert not may(near_by("a", earlier=("Good bye?",)), body=body)
    assert not may(near_by("a"), body=body)
    assert not may(near_by("a", earlier=("Hello?",)))


def test_a_guard_s_veto_does_not_matter() -> None:
    assert may(near_by("a", query="How do I not oil 17 hinges?"))


def gatherer(
    shelf: Shelf, improved: Mapping[str, str] | None = None, stopped: Quarantine | None = None
) -> Gatherer:
    return Gatherer(
        cache=cast(Cache, shelf),
        quarantine=quarantine() if stopped is None else stopped,
        record=lambda id, at: TrackRecord(offered=len(id)),
        improved=lambda held: ({} if improved is None else improved).get(held.id),
        clock=lambda: NOON,
    )


def gathered(*found: Candidate, **more: Any) -> tuple[Gatherer, Shelf]:
    shelf = Shelf(*(each.held for each in found), says=more.pop("says", None))
    return gatherer(shelf, **more), shelf


async def texts(source: Gatherer, *around: Candidate, call: Call | None = None) -> dict[str, str]:
    shown = await source.examples(call or call_of(), around)
    return {each.id: each.answer for each in shown}


async def test_an_example_says_what_is_known_of_its_entry() -> None:
    found = near_by("ab", 0.75)
    source, _ = gathered(found)
    assert await source.examples(call_of(), [found]) == [
        Example(
            id=EntryId("ab"),
            shown=Shown.read("How do I oil hinge ab?", "With oil ab."),
            similarity=0.75,
            age=60.0,
            record=TrackRecord(offered=2),
        )
    ]


async def test_a_question_is_scrubbed_whatever_the_scope() -> None:
    found = near_by("a", query="What did ann.smith@harbour.example order?")
    for policy in (TENANT, USER):
        call = call_of(policy)
        own = Candidate(structs.replace(found.held, user=call.asker), 0.8)
        source, _ = gathered(own)
        (shown,) = await source.examples(call, [own])
        assert shown.question == "What did <EMAIL> order?"


@pytest.mark.parametrize("answer", ["desk@lyon.example", "Call +49 30 901820, or write."])
async def test_an_answer_that_scrubbing_would_change_is_not_shown_in_any_scope(
    answer: str,
) -> None:
    for policy in (TENANT, USER):
        call = call_of(policy)
        own = near_by("a", user=call.asker)
        source, shelf = gathered(own, says={"a": answer})
        for _ in range(3):
            assert await texts(source, own, call=call) == {}
        assert len(shelf.reads) == 1


async def test_a_placeholder_that_the_answer_itself_has_may_be_shown() -> None:
    found = near_by("a")
    source, _ = gathered(found, says={"a": " Put <EMAIL> into the template. "})
    assert await texts(source, found) == {"a": "Put <EMAIL> into the template."}


async def test_an_answer_is_read_once_and_anew_when_it_was_replaced() -> None:
    found = near_by("a")
    source, shelf = gathered(found)
    for _ in range(3):
        assert await texts(source, found) == {"a": "With oil a."}
    assert len(shelf.reads) == 1
    newer = Candidate(structs.replace(found.held, created_at=NOON), 0.8)
    shelf.held[found.held.id], shelf.says["a"] = newer.held, "With butter."
    assert await texts(source, newer) == {"a": "With butter."}


async def test_what_is_gone_from_the_cache_is_not_shown_from_memory() -> None:
    found = near_by("a")
    source, shelf = gathered(found)
    assert await texts(source, found)
    del shelf.held[found.held.id]
    assert await texts(source, found) == {}


async def test_an_improved_answer_is_shown_once_the_old_one_is_forgotten() -> None:
    found, improved = near_by("a"), dict[str, str]()
    source, _ = gathered(found, improved=improved)
    assert await texts(source, found) == {"a": "With oil a."}
    improved["a"] = "With graphite."
    assert await texts(source, found) == {"a": "With oil a."}
    source.forget(EntryId("a"))
    assert await texts(source, found) == {"a": "With graphite."}
    improved["a"] = "With graphite, says bob@harbour.example."
    source.forget(EntryId("a"))
    assert await texts(source, found) == {}


async def test_an_answer_that_is_improved_while_it_is_read_is_not_kept_as_it_was() -> None:
    found, improved = near_by("a"), dict[str, str]()
    source, shelf = gathered(found, improved=improved)
    read = shelf.document

    async def improves(id: EntryId) -> Any:
        document = await read(id)
        improved["a"] = "With graphite."
        return document

    shelf.document = improves  # type: ignore[method-assign]
    await source.prepare(found.held, make_room=True)
    assert await texts(source, found) == {"a": "With graphite."}


async def test_what_is_no_text_is_read_once() -> None:
    found = near_by("a")
    source, shelf = gathered(found, says={"a": " "})
    for _ in range(3):
        assert await texts(source, found) == {}
    assert len(shelf.reads) == 1


async def test_what_is_ready_is_shown_though_another_document_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "_PATIENCE", 0.02)
    around = [near_by("a", 0.9), near_by("b", 0.8)]
    source, shelf = gathered(*around)
    shelf.slow = {"a"}
    await source.prepare(around[1].held, make_room=False)
    assert await texts(source, *around) == {"b": "With oil b."}


async def test_a_document_that_takes_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_PATIENCE", 0.02)
    around = [near_by("a", 0.9), near_by("b", 0.8)]
    source, shelf = gathered(*around)
    shelf.slow = {"b"}
    assert await texts(source, *around) == {"a": "With oil a."}


async def test_what_has_been_quarantined_meanwhile_is_left_out() -> None:
    found, stopped = near_by("a"), quarantine()
    source, shelf = gathered(found, stopped=stopped)
    read = shelf.document

    async def stops(id: EntryId) -> Any:
        await stopped.add(id, "quay", NOON, "wrong")
        return await read(id)

    shelf.document = stops  # type: ignore[method-assign]
    assert await texts(source, found) == {}


async def test_what_is_too_long_or_no_text_is_left_out() -> None:
    around = [near_by("a"), near_by("b"), near_by("c", query="why? " * 2000)]
    source, _ = gathered(*around, says={"a": "x" * 8001, "b": "x" * 8000})
    assert list(await texts(source, *around)) == ["b"]


NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f"])
FOUND = st.builds(
    near_by,
    NAMES,
    st.floats(-1, 1, width=32),
    tenant=st.sampled_from(["harbour", "quay"]),
    user=st.sampled_from(["", "mine", "theirs"]),
    category=st.sampled_from(["default", "open", "closed", "exact", "gone"]),
    created_at=st.integers(0, 10**6).map(lambda age: NOON - timedelta(seconds=age)),
)
BOOK = (
    USER,
    replace(TENANT, name="open"),
    replace(TENANT, name="closed", offload=Offload.OFF),
    replace(TENANT, name="exact", mode=Mode.EXACT),
)


@given(
    st.lists(FOUND, max_size=8, unique_by=lambda each: each.held.id),
    st.dictionaries(NAMES, st.sampled_from(["harbour", "quay", EVERYBODY]), max_size=3),
    st.sampled_from(["default", "open"]),
)
async def test_whatever_is_near_nothing_that_is_another_s_comes_out(
    found: list[Candidate], stopped: dict[str, str], category: str
) -> None:
    call = call_of(*BOOK, category=category)
    mine = [
        Candidate(structs.replace(each.held, user=call.asker), each.similarity)
        if each.held.user == "mine"
        else each
        for each in found
    ]
    source, shelf = gathered(*mine, stopped=quarantine(*stopped.items()))
    shown = await source.examples(call, mine)
    for example in shown:
        held = shelf.held[example.id]
        assert held.tenant == "harbour"
        assert held.id not in stopped
        assert held.category in ("default", "open")
        assert held.user == call.asker or held.category == category == "open"
        assert example.similarity >= 0.5
        assert 0.0 <= example.age <= 24 * 3600
    assert len({example.id for example in shown}) == len(shown)
