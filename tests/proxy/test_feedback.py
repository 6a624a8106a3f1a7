"""Whom a verdict keeps an answer from: the tenant, its twins included, and who is next."""

from __future__ import annotations

from proxy.feedback import stop_for
from store.documents.base import held_of
from store.quarantine import EVERYBODY, Quarantine, names_of
from tests.entries import NOON, entry
from tests.fakes_documents import MemoryDocuments

ONE, OTHER, OWN = (
    held_of(entry(id, tenant=tenant, shared_key="k"))
    for id, tenant in (("1", "pier"), ("2", "quay"), ("3", "harbour"))
)
TWINS = (ONE, OTHER, OWN)


async def stopped(*complaints: tuple[str, str]) -> Quarantine:
    """Return what is stopped once each of these tenants has called one of the twins wrong."""
    quarantine = Quarantine(MemoryDocuments().records)
    for number, tenant in complaints:
        held = TWINS[int(number) - 1]
        names = names_of(held.id, held.shared_key)
        await stop_for(quarantine, names, tenant, NOON, "feedback")
    return quarantine


async def test_who_called_an_answer_wrong_is_served_no_other_tenants_twin_of_it() -> None:
    quarantine = await stopped(("1", "harbour"))
    assert quarantine.keeps(ONE, "harbour") and quarantine.keeps(OTHER, "harbour")
    assert not quarantine.keeps(OWN, "harbour")  # nobody has complained of that
    assert not any(quarantine.keeps(twin, "airport") for twin in TWINS)


async def test_an_own_answer_that_was_wrong_does_not_come_back_from_others() -> None:
    quarantine = await stopped(("3", "harbour"))
    assert all(quarantine.keeps(twin, "harbour") for twin in TWINS)


async def test_complaints_about_different_twins_add_up() -> None:
    quarantine = await stopped(("1", "harbour"), ("2", "airport"))
    assert all(quarantine.keeps(twin, "station") for twin in TWINS)
    assert quarantine.keeps(OTHER, "quay")
    assert not quarantine.keeps(ONE, "pier")  # its own word, which one other tenant doubts


async def test_a_tenant_that_says_it_twice_is_still_one() -> None:
    quarantine = await stopped(("1", "harbour"), ("2", "harbour"))
    assert not any(EVERYBODY in quarantine.tenants(twin.id) for twin in TWINS)
    assert not any(quarantine.keeps(twin, "station") for twin in TWINS)


async def test_outside_scope_shared_an_entry_has_no_twins() -> None:
    alone = held_of(entry("1"))
    quarantine = Quarantine(MemoryDocuments().records)
    await stop_for(quarantine, names_of(alone.id, alone.shared_key), "pier", NOON, "feedback")
    assert len(quarantine) == 1
    assert not quarantine.keeps(held_of(entry("2")), "pier")
