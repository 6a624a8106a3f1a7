"""What every implementation of Records promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from store.documents.base import DocumentStore
from store.documents.records import (
    BY_ADMIN,
    STATE_BYTES,
    AuditRow,
    Bounds,
    Listing,
    Pair,
    PolicyVersion,
    Records,
)
from store.documents.sqlite import SqliteDocuments
from store.entry import EntryId
from store.errors import StoreUnavailable, VersionTaken
from tests.entries import NOON, entry
from tests.fakes_documents import MemoryDocuments
from tests.fakes_records import MemoryRecords
from tests.redis_stores import ServerOf, redis_documents

T = TypeVar("T")
KINDS = ["sqlite", "memory", "redis 7", "redis 8"]
FEW = Bounds(versions=3, audit=4, pairs=5, quarantine=3)
A, B, C, D = (EntryId(letter) for letter in "abcd")
HIT = AuditRow(at=NOON, who="ops", action="policy.put", category="fares", before="{}", after="[1]")


class Shop(NamedTuple):
    documents: DocumentStore
    records: Records


@asynccontextmanager
async def shop_of(
    kind: str, directory: Path, redis_server: ServerOf, bounds: Bounds
) -> AsyncIterator[Shop]:
    if kind.startswith("redis"):
        async with redis_documents(redis_server(kind[-1]), bounds=bounds) as shared:
            yield Shop(shared, shared.records)
    elif kind == "sqlite":
        documents = SqliteDocuments.open(directory, bounds=bounds)
        yield Shop(documents, documents.records)
        await documents.aclose()
    else:
        memory = MemoryDocuments()
        yield Shop(memory, MemoryRecords(memory, bounds))
        await memory.aclose()


@pytest.fixture(params=KINDS)
async def shop(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: ServerOf
) -> AsyncIterator[Shop]:
    async with shop_of(request.param, tmp_path, redis_server, Bounds()) as shop:
        yield shop


@pytest.fixture(params=KINDS)
async def small(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: ServerOf
) -> AsyncIterator[Records]:
    async with shop_of(request.param, tmp_path, redis_server, FEW) as shop:
        yield shop.records


@pytest.fixture
def records(shop: Shop) -> Records:
    return shop.records


def version(note: str = "", **changes: Any) -> PolicyVersion:
    fields: dict[str, Any] = {
        "at": NOON,
        "who": "ops",
        "source": "api",
        "seed": "seed-1",
        "document": '{"categories": []}',
        "note": note,
    }
    return PolicyVersion(**(fields | changes))


def pair(event: str, **changes: Any) -> Pair:
    fields: dict[str, Any] = {
        "at": NOON,
        "tenant": "harbour",
        "event": event,
        "query": "when does the ferry leave?",
        "entry_query": "when does the ferry arrive?",
        "entry_id": A,
        "similarity": 0.9375,
        "label": 0,
        "category": "fares",
    }
    return Pair(**(fields | changes))


async def all_parts(
    part: Callable[[str | None], Awaitable[Listing[T]]], at_most: int = 20
) -> list[T]:
    """Follow the cursors to the end."""
    found, cursor = list[T](), None
    for _ in range(at_most):
        items, cursor = await part(cursor)
        found += items
        if cursor is None:
            return found
    raise AssertionError(f"no end after {at_most} parts")


# Policy versions


async def test_without_versions_there_is_no_latest(records: Records) -> None:
    assert await records.latest_version() is None
    assert await records.version(1) is None
    assert await records.versions(limit=5) == Listing((), None)


async def test_a_version_comes_back_under_its_number_and_so_does_its_audit_row(
    records: Records,
) -> None:
    first = version("naïve 🦊", document="{}" * 5000, source="starter")
    second = version("next", at=NOON + timedelta(microseconds=1), number=77)
    assert await records.add_version(first, HIT) == 1
    assert await records.add_version(second, AuditRow(at=NOON, who="x", action="y")) == 2
    assert await records.version(1) == version(
        "naïve 🦊", document="{}" * 5000, source="starter", number=1
    )
    latest = await records.latest_version()
    assert latest == version("next", at=NOON + timedelta(microseconds=1), number=2)
    assert (await records.audit(limit=5)).items == (AuditRow(at=NOON, who="x", action="y"), HIT)


async def test_a_version_is_stored_with_what_belongs_to_it_or_neither_is(small: Records) -> None:
    assert await small.add_version(version("first"), HIT, after=0, state=("serves", "one")) == 1
    assert await small.states() == {"serves": "one"}
    with pytest.raises(VersionTaken):
        await small.add_version(version("late"), HIT, after=0, state=("serves", "another"))
    assert await small.states() == {"serves": "one"}
    assert await small.add_version(version("next"), HIT, after=1, state=("serves", "two")) == 2
    assert await small.states() == {"serves": "two"}


async def test_a_version_that_is_to_follow_another_than_the_newest_is_refused(
    small: Records,
) -> None:
    assert await small.add_version(version("first"), HIT, after=0) == 1
    for number in (0, 2, -1):
        with pytest.raises(VersionTaken):
            await small.add_version(version("late"), HIT, after=number)
    for number in range(1, 6):  # beyond what is kept
        assert await small.add_version(version("next"), HIT, after=number) == number + 1
    latest = await small.latest_version()
    assert latest is not None and latest.number == 6
    assert "late" not in [v.note for v in (await small.versions(limit=9)).items]


@pytest.mark.parametrize("number", [0, -1, 2, 2**63, -(2**63), 10**30])
async def test_a_number_that_was_never_given_names_no_version(
    records: Records, number: int
) -> None:
    await records.add_version(version(), HIT)
    assert await records.version(number) is None


async def test_only_the_newest_versions_are_kept_and_numbers_go_on(small: Records) -> None:
    numbers = [await small.add_version(version(str(n)), HIT) for n in range(1, 6)]
    assert numbers == [1, 2, 3, 4, 5]
    assert [v.number for v in (await small.versions(limit=9)).items] == [5, 4, 3]
    assert await small.version(2) is None
    latest = await small.latest_version()
    assert latest == version("5", number=5)


async def test_versions_written_at_once_get_numbers_in_the_order_of_the_calls(
    records: Records,
) -> None:
    numbers = await asyncio.gather(
        *(records.add_version(version(str(n)), HIT) for n in range(1, 8))
    )
    assert numbers == list(range(1, 8))
    found = (await records.versions(limit=9)).items
    assert [(v.number, v.note) for v in found] == [(n, str(n)) for n in range(7, 0, -1)]


# Audit


async def test_the_audit_trail_keeps_its_newest_rows(small: Records) -> None:
    for number in range(7):
        await small.add_audit(AuditRow(at=NOON, who="ops", action=str(number)))
    assert [row.action for row in (await small.audit(limit=9)).items] == list("6543")


async def test_an_empty_text_is_not_nothing(records: Records) -> None:
    row = AuditRow(at=NOON, who="", action="", category="", before="", after=None)
    await records.add_audit(row)
    assert (await records.audit(limit=1)).items == (row,)


# Listings


async def test_a_list_is_read_part_by_part_each_item_once(records: Records) -> None:
    for number in range(7):
        await records.add_version(version(str(number)), HIT)
        await records.add_audit(AuditRow(at=NOON, who="ops", action=str(number)))
        await records.add_pair(pair(str(number), category="fares" if number % 2 else "tides"))
    seen = await all_parts(lambda cursor: records.versions(limit=3, cursor=cursor))
    assert [v.note for v in seen] == list("6543210")
    trail = await all_parts(lambda cursor: records.audit(limit=7, cursor=cursor))
    assert len(trail) == 14
    pairs = await all_parts(lambda cursor: records.pairs(limit=2, cursor=cursor))
    assert [p.event for p in pairs] == list("6543210")
    tides = await all_parts(lambda cursor: records.pairs(limit=2, cursor=cursor, category="tides"))
    assert [p.event for p in tides] == list("6420")


async def test_what_arrives_meanwhile_does_not_shift_the_parts(records: Records) -> None:
    for number in range(4):
        await records.add_pair(pair(str(number)))
    first = await records.pairs(limit=2)
    await records.add_pair(pair("late"))
    second = await records.pairs(limit=2, cursor=first.next)
    assert [p.event for p in (*first.items, *second.items)] == list("3210")
    assert second.next is None


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1; DROP TABLE audit", "1.5"])
async def test_a_foreign_cursor_is_refused(records: Records, cursor: str) -> None:
    for call in (
        records.versions(limit=3, cursor=cursor),
        records.audit(limit=3, cursor=cursor),
        records.pairs(limit=3, cursor=cursor),
    ):
        with pytest.raises(ValueError, match="is not one that a listing returned"):
            await call


# Pairs


async def test_a_pair_comes_back_as_it_was(records: Records) -> None:
    odd = pair('Zoë\n"🦊"\x00\u2028', similarity=-0.0, comment="no: it leaves", query="")
    whole = pair("1", similarity=1, label=1)
    await records.add_pair(odd)
    await records.add_pair(whole)
    assert (await records.pairs(limit=5)).items == (whole, odd)


async def test_a_second_word_on_a_serving_event_replaces_the_first(records: Records) -> None:
    for event in ("1", "2"):
        await records.add_pair(pair(event, label=0))
    await records.add_pair(pair("1", tenant="airport", label=0))  # not the same event
    again = pair("1", label=1, comment="it was right after all")
    await records.add_pair(again)
    found = (await records.pairs(limit=5)).items
    assert [(p.tenant, p.event, p.label) for p in found] == [
        ("harbour", "1", 1),
        ("airport", "1", 0),
        ("harbour", "2", 0),
    ]
    assert found[0] == again


async def test_the_oldest_pairs_leave_and_a_replacement_costs_no_other_its_place(
    small: Records,
) -> None:
    for event in "1234":
        await small.add_pair(pair(event))
    for label in (1, 0, 1, 0, 1, 0):
        await small.add_pair(pair("4", label=label))
    assert [p.event for p in (await small.pairs(limit=9)).items] == list("4321")
    for event in "567":
        await small.add_pair(pair(event))
    assert [p.event for p in (await small.pairs(limit=9)).items] == list("76543")


async def test_pairs_of_an_unknown_category_are_none(records: Records) -> None:
    await records.add_pair(pair("1"))
    assert await records.pairs(limit=3, category="weather") == Listing((), None)
    assert await records.pairs(limit=3, category="") == Listing((), None)


# Quarantine


async def test_a_quarantine_is_for_one_tenant_or_for_everybody(records: Records) -> None:
    assert await records.quarantined() == []
    await records.quarantine(A, "harbour", NOON, "feedback")
    await records.quarantine(A, "", NOON, "confirmed")
    await records.quarantine(B, "airport", NOON, "feedback")
    assert await records.quarantined() == [(A, "harbour"), (A, ""), (B, "airport")]
    assert await records.release(A, "harbour") is True
    assert await records.release(A, "harbour") is False
    assert await records.release(B, "") is False
    assert await records.quarantined() == [(A, ""), (B, "airport")]


async def test_quarantining_again_counts_as_newest_and_once(small: Records) -> None:
    for id in (A, B, C, A, D):
        await small.quarantine(id, "", NOON, "wrong")
    assert await small.quarantined() == [(C, ""), (A, ""), (D, "")]


async def test_a_release_makes_room_so_that_no_quarantine_ends_early(small: Records) -> None:
    await small.quarantine(A, "", NOON, "wrong")
    for number in range(9):
        await small.quarantine(B, str(number), NOON, "wrong")
        assert await small.release(B, str(number))
    await small.quarantine(C, "", NOON, "wrong")
    await small.quarantine(D, "", NOON, "wrong")
    assert await small.quarantined() == [(A, ""), (C, ""), (D, "")]


async def test_a_tenant_that_has_too_much_stopped_loses_its_own_oldest(small: Records) -> None:
    await small.quarantine(A, "harbour", NOON, "feedback")
    for id in (A, B, C, D):
        await small.quarantine(id, "airport", NOON, "feedback")
    assert await small.quarantined() == [(A, "harbour"), (C, "airport"), (D, "airport")]
    await small.quarantine(B, "station", NOON, "feedback")  # has nothing to give up
    assert await small.quarantined() == [(C, "airport"), (D, "airport"), (B, "station")]


async def test_what_an_admin_has_stopped_never_leaves_for_a_tenants_word(small: Records) -> None:
    said = f"{BY_ADMIN}wrong dose"
    await small.quarantine(A, "", NOON, said)
    await small.quarantine(B, "harbour", NOON, said)
    for tenant in ("harbour", "airport", ""):  # "": of two tenants
        for id in (C, D):
            await small.quarantine(id, tenant, NOON, "feedback")
    assert await small.quarantined() == [(A, ""), (B, "harbour"), (D, "")]
    await small.quarantine(C, "", NOON, said)  # what a tenant said leaves for it
    await small.quarantine(D, "airport", NOON, "feedback")  # and finds no room any more
    assert await small.quarantined() == [(A, ""), (B, "harbour"), (C, "")]
    await small.quarantine(D, "", NOON, said)
    assert await small.quarantined() == [(B, "harbour"), (C, ""), (D, "")]


# Answers


async def test_an_answer_is_found_by_the_id_in_its_body_for_its_own_tenant_only(
    shop: Shop,
) -> None:
    await shop.documents.put(entry("a", tenant="harbour", answer_id="x-1"))
    await shop.documents.put(entry("b", tenant="airport", answer_id="x-1"))
    await shop.documents.put(entry("c", tenant="harbour"))
    find = shop.records.find_answer
    assert await find("harbour", "x-1") == "a"
    assert await find("airport", "x-1") == "b"
    assert await find("station", "x-1") is None
    assert await find("harbour", "x-2") is None
    assert await find("harbour", "") is None
    await shop.documents.purge([A])
    assert await find("harbour", "x-1") is None


async def test_somebody_elses_answer_is_found_once_it_is_shared_and_approved(shop: Shop) -> None:
    await shop.documents.put(entry("a", answer_id="x-1", shared_key="s-1"))
    await shop.documents.put(entry("b", answer_id="x-2", approved=True))
    find = shop.records.find_answer
    assert await find("airport", "x-1") is None
    assert await find("airport", "x-2") is None  # approved, but not of scope shared
    await shop.documents.approve([A])
    assert await find("airport", "x-1") == "a"


async def test_the_tenants_own_answer_comes_before_a_shared_one_then_the_newest(
    shop: Shop,
) -> None:
    shared: dict[str, Any] = {"shared_key": "s", "approved": True, "tenant": "airport"}
    for id, changes in (("a", {}), ("b", {}), ("c", shared), ("d", shared)):
        await shop.documents.put(entry(id, answer_id="x", **changes))
    assert await shop.records.find_answer("harbour", "x") == "b"
    assert await shop.records.find_answer("station", "x") == "d"


async def test_a_tenant_is_forgotten_and_nobody_else(records: Records) -> None:
    for tenant in ("harbour", "airport"):
        for event in "12":
            await records.add_pair(pair(event, tenant=tenant))
    for id, tenant in ((A, "harbour"), (A, ""), (B, "airport"), (B, "harbour")):
        await records.quarantine(id, tenant, NOON, "feedback")
    assert await records.forget_tenant("harbour") == (2, 2)
    assert {p.tenant for p in (await records.pairs(limit=9)).items} == {"airport"}
    assert await records.quarantined() == [(A, ""), (B, "airport")]
    assert await records.forget_tenant("harbour") == (0, 0)


# Error budgets


async def test_a_category_has_one_budget_state_and_an_empty_one_drops_it(records: Records) -> None:
    for category, state in (("fares", "one"), ("tides", "two"), ("fares", "three")):
        await records.save_budget(category, state)
    assert await records.budgets() == {"fares": "three", "tides": "two"}
    await records.save_budget("tides", "")
    assert await records.budgets() == {"fares": "three"}


# What was learnt


async def test_there_is_one_learned_state_a_name_and_an_empty_one_drops_it(
    records: Records,
) -> None:
    for name, state in (("router", "one"), ("examples", 'Zoë "🦊"\x00\n'), ("router", "three")):
        await records.save_state(name, state)
    assert await records.states() == {"router": "three", "examples": 'Zoë "🦊"\x00\n'}
    await records.save_state("examples", "")
    await records.save_state("never", "")
    await records.save_budget("router", "not this")
    assert await records.states() == {"router": "three"}


async def test_a_learned_state_has_a_largest_size_in_bytes(records: Records) -> None:
    largest = "x" * STATE_BYTES
    await records.save_state("router", largest)
    for larger in (largest + "x", "é" * (STATE_BYTES // 2 + 1)):
        with pytest.raises(ValueError, match="bytes in UTF-8"):
            await records.save_state("router", larger)
    assert await records.states() == {"router": largest}


async def test_what_was_learnt_is_not_a_tenants(records: Records) -> None:
    await records.save_state("harbour", "one")
    await records.forget_tenant("harbour")
    assert await records.states() == {"harbour": "one"}


# Failing


async def test_a_closed_store_is_unavailable(shop: Shop) -> None:
    await shop.documents.aclose()
    records = shop.records
    calls: list[Awaitable[object]] = [
        records.add_version(version(), HIT),
        records.latest_version(),
        records.version(1),
        records.versions(limit=1),
        records.add_audit(HIT),
        records.audit(limit=1),
        records.add_pair(pair("1")),
        records.pairs(limit=1),
        records.quarantine(A, "", NOON, "wrong"),
        records.release(A, ""),
        records.quarantined(),
        records.forget_tenant("harbour"),
        records.find_answer("harbour", "x"),
        records.save_budget("fares", "{}"),
        records.save_budget("fares", ""),
        records.budgets(),
        records.save_state("router", "{}"),
        records.save_state("router", ""),
        records.states(),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            await call
