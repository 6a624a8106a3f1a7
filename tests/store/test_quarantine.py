"""A quarantined entry serves nobody it is kept from, at once and after a restart."""

from __future__ import annotations

import pytest

from store.documents.records import BY_ADMIN, Bounds
from store.entry import EntryId
from store.errors import StoreUnavailable
from store.journal import Record, Released, Stopped, TenantForgotten
from store.quarantine import EVERYBODY, Quarantine
from tests.entries import NOON
from tests.fakes_documents import MemoryDocuments
from tests.fakes_records import MemoryRecords

A, B = EntryId("a"), EntryId("b")


async def test_an_entry_is_kept_from_the_tenant_that_was_named() -> None:
    quarantine = await Quarantine.open(MemoryDocuments().records)
    await quarantine.add(A, "harbour", NOON, "wrong")
    assert quarantine.holds(A, "harbour")
    assert not quarantine.holds(A, "airport")
    assert not quarantine.holds(B, "harbour")
    assert quarantine.tenants(A) == {"harbour"}


async def test_everybody_means_every_tenant() -> None:
    quarantine = await Quarantine.open(MemoryDocuments().records)
    await quarantine.add(A, EVERYBODY, NOON, "wrong")
    assert quarantine.holds(A, "harbour")
    assert quarantine.holds(A, "airport")


async def test_a_restart_keeps_it() -> None:
    records = MemoryDocuments().records
    before = await Quarantine.open(records)
    await before.add(A, "harbour", NOON, "wrong")
    await before.add(A, "airport", NOON, "wrong")
    await before.add(B, EVERYBODY, NOON, "wrong")
    await before.lift(B)
    after = await Quarantine.open(records)
    assert after.tenants(A) == {"harbour", "airport"}
    assert len(after) == 1


async def test_lifting_frees_an_entry_for_all() -> None:
    quarantine = await Quarantine.open(MemoryDocuments().records)
    await quarantine.add(A, "harbour", NOON, "wrong")
    assert await quarantine.lift(A)
    assert not quarantine.holds(A, "harbour")
    assert not await quarantine.lift(A)


async def test_an_entry_is_stopped_even_when_the_store_fails() -> None:
    records = MemoryDocuments().records
    quarantine = await Quarantine.open(records)
    records.failing = True
    with pytest.raises(StoreUnavailable):
        await quarantine.add(A, "harbour", NOON, "wrong")
    assert quarantine.holds(A, "harbour")


async def test_an_entry_stays_stopped_when_lifting_fails() -> None:
    records = MemoryDocuments().records
    quarantine = await Quarantine.open(records)
    await quarantine.add(A, "harbour", NOON, "wrong")
    records.failing = True
    with pytest.raises(StoreUnavailable):
        await quarantine.lift(A)
    assert quarantine.holds(A, "harbour")


async def test_the_oldest_leave_when_there_are_too_many() -> None:
    documents = MemoryDocuments()
    quarantine = Quarantine(MemoryRecords(documents, Bounds(quarantine=2)), most=2)
    documents.follow(quarantine.apply)
    for id in ("a", "b", "c"):
        await quarantine.add(EntryId(id), "harbour", NOON, "wrong")
    assert len(quarantine) == 2
    assert not quarantine.holds(A, "harbour")
    assert quarantine.holds(EntryId("c"), "harbour")


async def test_one_tenants_complaints_end_nobody_elses_quarantine() -> None:
    documents = MemoryDocuments()
    quarantine = Quarantine(MemoryRecords(documents, Bounds(quarantine=9)), most=9)
    documents.follow(quarantine.apply)
    await quarantine.add(A, EVERYBODY, NOON, f"{BY_ADMIN}wrong dose")
    await quarantine.add(B, "harbour", NOON, "feedback")
    for number in range(20):
        await quarantine.add(EntryId(f"mine {number}"), "noisy", NOON, "feedback")
    assert quarantine.holds(A, "airport")
    assert quarantine.holds(B, "harbour")
    assert len(quarantine) == 9


async def test_memory_is_bounded_while_nothing_can_be_recorded() -> None:
    records = MemoryDocuments().records
    quarantine = Quarantine(records, most=2)
    records.failing = True
    for id in ("a", "b", "c"):
        with pytest.raises(StoreUnavailable):
            await quarantine.add(EntryId(id), "harbour", NOON, "wrong")
    assert [quarantine.holds(EntryId(id), "harbour") for id in "abc"] == [True, True, False]


async def test_a_forgotten_tenant_is_kept_from_nothing_but_what_everybody_is() -> None:
    records = MemoryDocuments().records
    quarantine = await Quarantine.open(records)
    await quarantine.add(A, "harbour", NOON, "wrong")
    await quarantine.add(A, "airport", NOON, "wrong")
    await quarantine.add(B, "harbour", NOON, "wrong")
    await quarantine.add(EntryId("c"), EVERYBODY, NOON, "wrong")
    assert await quarantine.forget_tenant("harbour") == (0, 2)
    for held in (quarantine, await Quarantine.open(records)):
        assert [held.holds(EntryId(id), "harbour") for id in "abc"] == [False, False, True]
        assert held.holds(A, "airport")
        assert len(held) == 2


async def test_nothing_is_forgotten_when_the_store_fails() -> None:
    records = MemoryDocuments().records
    quarantine = await Quarantine.open(records)
    await quarantine.add(A, "harbour", NOON, "wrong")
    records.failing = True
    with pytest.raises(StoreUnavailable):
        await quarantine.forget_tenant("harbour")
    assert quarantine.holds(A, "harbour")


async def test_what_another_process_stops_and_releases_holds_here() -> None:
    quarantine = await Quarantine.open(MemoryDocuments().records)
    quarantine.apply(Record(1, Stopped(A, "harbour"), own=False))
    quarantine.apply(Record(2, Stopped(A, EVERYBODY), own=False))
    assert quarantine.tenants(A) == {"harbour", EVERYBODY}
    quarantine.apply(Record(3, Released(A, EVERYBODY), own=False))
    assert not quarantine.holds(A, "airport")
    quarantine.apply(Record(4, TenantForgotten("harbour"), own=False))
    assert (quarantine.holds(A, "harbour"), len(quarantine)) == (False, 0)


async def test_a_store_that_forgot_is_told_again_what_is_stopped_here() -> None:
    quarantine = await Quarantine.open(MemoryDocuments().records)
    await quarantine.add(A, "harbour", NOON, "wrong")
    forgetful = MemoryDocuments().records
    await forgetful.quarantine(B, "airport", NOON, "wrong")
    quarantine._records = forgetful
    await quarantine.reload(forgotten=True)
    assert quarantine.holds(B, "airport")
    assert set(await forgetful.quarantined()) == {(A, "harbour"), (B, "airport")}


async def test_what_was_released_while_nobody_listened_stays_released() -> None:
    records = MemoryDocuments().records
    quarantine = await Quarantine.open(records)
    await quarantine.add(A, EVERYBODY, NOON, "wrong")
    await records.release(A, EVERYBODY)
    await quarantine.reload(forgotten=False)
    assert not quarantine.holds(A, "harbour")
    assert await records.quarantined() == []


async def test_what_could_not_be_recorded_is_when_records_are_read_anew() -> None:
    documents = MemoryDocuments()
    quarantine = await Quarantine.open(documents.records)
    documents.failing = True
    with pytest.raises(StoreUnavailable):
        await quarantine.add(A, "harbour", NOON, "wrong")
    documents.failing = False
    await quarantine.reload(forgotten=False)
    assert quarantine.holds(A, "harbour")
    assert await documents.records.quarantined() == [(A, "harbour")]


async def test_what_is_stopped_is_listed_in_parts_though_some_of_it_is_lifted_meanwhile() -> None:
    quarantine = await Quarantine.open(MemoryDocuments().records)
    for id in "dbac":
        await quarantine.add(EntryId(id), EVERYBODY, NOON, "wrong")
    assert quarantine.after("", 2, lambda id: id != "b") == ["a", "c"]
    await quarantine.lift(EntryId("c"))
    assert quarantine.after("c", 2, lambda id: True) == ["d"]
