"""Examples are made ready beside the requests; what may be seen of them is asked later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.example import TrackRecord
from proxy.model_settings import Offload as Pairing
from proxy.nearhits import preparing
from proxy.nearhits.gathering import Gatherer
from proxy.nearhits.preparing import Preparing, is_offered
from proxy.nearhits.shown_forms import ShownForms
from store.cache import Cache
from store.documents.base import Stored
from store.entry import EntryId, Held
from store.errors import StoreUnavailable
from store.journal import Put, Record, Removed
from store.policy import Mode, Offload, Policy, PolicyBook
from store.quarantine import Quarantine
from tests.entries import NOON
from tests.fakes_documents import MemoryDocuments
from tests.proxy.nearhits.calls import TENANT, Shelf, call_of, held_of, near_by

PAIRINGS = [Pairing(model="large*", small="small")]


def gatherer(shelf: Shelf) -> Gatherer:
    return Gatherer(
        cache=cast(Cache, shelf),
        quarantine=Quarantine(MemoryDocuments().records, []),
        record=lambda id, at: TrackRecord(),
        improved=lambda id: None,
        clock=lambda: NOON,
    )


class Workshop:
    """What prepares, what it prepares for, and how to wait until it has nothing to do."""

    def __init__(
        self,
        shelf: Shelf,
        known: Iterable[str] = (),
        is_wanted: Callable[[Held], bool] = lambda held: True,
    ) -> None:
        self.shelf = shelf
        self.gatherer = gatherer(shelf)
        self.preparing = Preparing(
            gatherer=self.gatherer,
            cache=cast(Cache, shelf),
            is_wanted=is_wanted,
            known=map(EntryId, known),
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.preparing.run())
        try:
            yield
        finally:
            task.cancel()

    def store(self, *ids: str, own: bool = True) -> None:
        for id in ids:
            held = held_of(id)
            self.shelf.held[held.id] = held
            self.preparing.apply(Record(1, Put(Stored(held, "c", None)), own))

    def remove(self, id: str) -> None:
        self.shelf.held.pop(EntryId(id), None)
        self.preparing.apply(Record(1, Removed((EntryId(id),), purged=True)))

    async def reads(self, count: int) -> list[EntryId]:
        """Return what was read, once it is that many, and not more a little later."""
        for _ in range(2000):
            if len(self.shelf.reads) >= count:
                break
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.02)
        return self.shelf.reads


async def test_what_is_stored_is_read_before_a_request_needs_it() -> None:
    shop = Workshop(Shelf())
    async with shop.open():
        shop.store("a", "b")
        assert await shop.reads(2) == ["a", "b"]
        shown = await shop.gatherer.examples(call_of(), [near_by("a"), near_by("b")])
    assert [each.answer for each in shown] == ["With oil a.", "With oil b."]
    assert shop.shelf.reads == ["a", "b"]


async def test_after_a_start_what_is_known_is_made_in_that_order_after_what_is_stored() -> None:
    shop = Workshop(Shelf(*map(held_of, "abc")), known=["c", "gone", "a"])
    shop.store("new")
    async with shop.open():
        assert await shop.reads(3) == ["new", "c", "a"]
        shop.store("newer")
        assert await shop.reads(4) == ["new", "c", "a", "newer"]


async def test_what_is_known_waits_for_a_request_where_there_is_no_room_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ShownForms, "has_room", False)
    shop = Workshop(Shelf(*map(held_of, "ab")), known="ab")
    async with shop.open():
        shop.store("new")
        assert await shop.reads(1) == ["new"]


async def test_another_replica_s_answer_is_left_to_whoever_needs_it() -> None:
    shop = Workshop(Shelf())
    async with shop.open():
        shop.store("theirs", own=False)
        shop.store("ours")
        assert await shop.reads(1) == ["ours"]


async def test_only_what_may_come_to_be_shown_is_made() -> None:
    shop = Workshop(Shelf(held_of("c")), known="c", is_wanted=lambda held: held.id == "b")
    async with shop.open():
        shop.store("a", "b")
        assert await shop.reads(1) == ["b"]


async def test_what_is_gone_is_forgotten() -> None:
    shop = Workshop(Shelf())
    async with shop.open():
        shop.store("a")
        assert await shop.reads(1) == ["a"]
        shop.remove("a")
        assert not shop.gatherer.knows(near_by("a").held)
        shop.store("a")
        assert await shop.reads(2) == ["a", "a"]


async def test_what_is_stored_too_fast_is_left_out_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preparing, "_WAITING", 2)
    shop = Workshop(Shelf())
    shop.store("a", "b", "c")
    async with shop.open():
        assert await shop.reads(2) == ["b", "c"]


async def test_an_entry_that_cannot_be_read_and_a_store_that_is_away_stop_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preparing, "_AGAIN", 0.001)
    shop, read = Workshop(Shelf()), Shelf.document

    async def document(id: EntryId) -> Any:
        if id == "away":
            shop.shelf.reads.append(id)
            raise StoreUnavailable("not now")
        if id == "damaged":
            shop.shelf.reads.append(id)
            raise ValueError("no JSON")
        return await read(shop.shelf, id)

    shop.shelf.document = document  # type: ignore[method-assign]
    async with shop.open():
        shop.store("away", "damaged", "fine")
        assert await shop.reads(3) == ["away", "damaged", "fine"]


@pytest.mark.parametrize(
    "unlike",
    [
        {"query": ""},
        {"model": "other"},
        {"model": "small"},
        {"category": "gone"},
        {"category": "off"},
        {"category": "exact"},
    ],
)
def test_what_no_policy_offers_is_not_made(unlike: dict[str, Any]) -> None:
    categories = (
        TENANT,
        replace(TENANT, name="off", offload=Offload.OFF),
        replace(TENANT, name="exact", mode=Mode.EXACT),
    )
    book = PolicyBook({policy.name: policy for policy in categories})
    assert is_offered(held_of("a", model="large-2"), book, PAIRINGS)
    assert not is_offered(held_of("a", **{"model": "large-2", **unlike}), book, PAIRINGS)


IDS = ["a", "b", "c", "d"]


@given(
    st.lists(st.sampled_from(IDS), unique=True),
    st.lists(st.sampled_from(IDS), unique=True),
    st.sampled_from([TENANT, replace(TENANT, offload=Offload.OFF), Policy(name="default")]),
    st.dictionaries(st.sampled_from(IDS), st.sampled_from(["harbour", "quay"])),
    st.booleans(),
)
async def test_whatever_was_prepared_a_request_sees_the_same(
    early: list[str], gone: list[str], policy: Policy, tenants: dict[str, str], make_room: bool
) -> None:
    around = [near_by(id, tenant=tenants.get(id, "harbour")) for id in IDS]
    seen = []
    for prepared in ([], early):
        shelf = Shelf(*(each.held for each in around))
        source = gatherer(shelf)
        for id in prepared:
            await source.prepare(shelf.held[EntryId(id)], make_room=make_room)
        for id in gone:
            shelf.held.pop(EntryId(id), None)
        seen.append(await source.examples(call_of(policy), around))
    assert seen[0] == seen[1]
    assert all(example.id not in gone for example in seen[1])
