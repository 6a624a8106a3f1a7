"""What every document store promises. Each implementation runs all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.documents.base import DocumentStore, Filter, Stored, Summary, held_of
from store.documents.sqlite import SqliteDocuments
from store.entry import Entry, EntryId, Vector, Version
from store.errors import StoreUnavailable
from tests.entries import NOON, OTHER_KEY, axis, directions, entry
from tests.fakes_documents import MemoryDocuments
from tests.redis_stores import ServerOf, redis_documents

SHARED: dict[str, Any] = {
    "shared_key": "s-1",
    "approved": True,
    "cost": 1.25,
    "answer_id": "chatcmpl-7Ü",
    "key_id": "0123456789ab",
}


@pytest.fixture(params=["sqlite", "memory", "redis 7", "redis 8"])
async def documents(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: ServerOf
) -> AsyncIterator[DocumentStore]:
    store: DocumentStore
    if request.param.startswith("redis"):
        async with redis_documents(redis_server(request.param[-1])) as store:
            yield store
        return
    store = SqliteDocuments.open(tmp_path) if request.param == "sqlite" else MemoryDocuments()
    yield store
    await store.aclose()


async def loaded(documents: DocumentStore, batch: int = 100) -> list[Stored]:
    return [stored async for part in documents.load_all(batch) for stored in part]


def assert_same(left: Entry | None, right: Entry) -> None:
    assert left is not None
    for field in Entry.__dataclass_fields__:
        if "vector" not in field:
            assert getattr(left, field) == getattr(right, field), field
    assert_same_vectors(
        (left.vector, *left.earlier_vectors), (right.vector, *right.earlier_vectors)
    )


def assert_same_vectors(left: Sequence[Vector | None], right: Sequence[Vector | None]) -> None:
    assert [vector is None for vector in left] == [vector is None for vector in right]
    for one, other in zip(left, right, strict=True):
        if one is not None and other is not None:
            assert one.dtype == np.float32
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(entry("a"), id="plain"),
        pytest.param(entry("a", vector=directions(1)[0]), id="with a vector"),
        pytest.param(entry("a", tags=("x", "naïve, with comma")), id="with tags"),
        pytest.param(entry("a", query="", tenant="", body=b""), id="empty texts"),
        pytest.param(entry("a", query='Zoë\n"🦊"\x00\u2028', model="模型"), id="odd texts"),
        pytest.param(entry("a", body=bytes(range(256)) * 4000), id="a large body"),
        pytest.param(
            entry("a", body=np.random.default_rng(1).bytes(5000)), id="an incompressible body"
        ),
        pytest.param(entry("a", created_at=NOON + timedelta(microseconds=1)), id="microseconds"),
        pytest.param(entry("a", **SHARED, user="u-1", classifier="minilm 3"), id="every field"),
        pytest.param(entry("a", earlier=('Zoë\n"🦊"\x00\u2028', "")), id="earlier turns"),
        pytest.param(
            entry(
                "a",
                vector=axis(3),
                earlier=("one", "two", "three"),
                earlier_vectors=(directions(1)[0], None, axis(2)),
            ),
            id="earlier turns, not all with vectors",
        ),
        pytest.param(entry("a", cost=-0.0), id="a negative nothing"),
        pytest.param(entry("a", cost=2), id="a cost in whole seconds"),
    ],
)
async def test_what_was_put_comes_back(documents: DocumentStore, stored: Entry) -> None:
    await documents.put(stored)
    assert_same(await documents.get(stored.id), stored)
    (only,) = await loaded(documents)
    assert only.held == held_of(stored)
    assert only.held.approved == stored.approved  # which == leaves out
    assert only.checkpoint == stored.checkpoint
    assert_same_vectors(
        (only.vector, *only.earlier_vectors), (stored.vector, *stored.earlier_vectors)
    )


async def test_an_unknown_id_is_none(documents: DocumentStore) -> None:
    assert await documents.get(EntryId("nobody")) is None


async def test_a_second_put_replaces_and_counts_as_newest(documents: DocumentStore) -> None:
    for id in ("a", "b"):
        await documents.put(entry(id))
    newer = entry("a", body=b"{}", key=OTHER_KEY, vector=axis(2), created_at=NOON)
    await documents.put(newer)
    assert_same(await documents.get(EntryId("a")), newer)
    assert await documents.count() == 2
    assert [stored.held.id for stored in await loaded(documents)] == ["b", "a"]


async def test_delete_says_how_many_there_were(documents: DocumentStore) -> None:
    for id in ("a", "b", "c"):
        await documents.put(entry(id))
    assert await documents.purge([EntryId("a"), EntryId("c"), EntryId("nobody")]) == 2
    assert await documents.purge([EntryId("a")]) == 0
    assert await documents.purge([]) == 0
    assert await documents.get(EntryId("a")) is None
    assert await documents.count() == 1


async def test_only_the_version_that_was_named_is_discarded(documents: DocumentStore) -> None:
    later = NOON + timedelta(microseconds=1)
    for id in ("a", "b", "c"):
        await documents.put(entry(id, shared_key="s"))
    await documents.put(entry("b", created_at=later, body=b"newer"))
    await documents.approve([EntryId("c")])  # which makes no other version of it
    named = [Version(EntryId(id), NOON) for id in ("a", "b", "c", "nobody")]
    assert await documents.discard(named) == 2
    assert await documents.discard(named) == 0
    assert await documents.discard([]) == 0
    assert [stored.held.version for stored in await loaded(documents)] == [("b", later)]
    assert await documents.count() == 1
    assert await documents.discard([Version(EntryId("b"), later)]) == 1


async def test_a_version_that_is_discarded_as_it_is_replaced_leaves_the_new_one(
    documents: DocumentStore,
) -> None:
    old, new = entry("a"), entry("a", created_at=NOON + timedelta(1), body=b"newer")
    for put_first in (True, False):
        await documents.put(old)
        calls = [documents.put(new), documents.discard([Version(old.id, NOON)])]
        await asyncio.gather(*(calls if put_first else reversed(calls)))
        assert_same(await documents.get(old.id), new)
        assert [stored.held.created_at for stored in await loaded(documents)] == [new.created_at]


async def test_approving_marks_shared_entries_only_and_says_how_many_there_are(
    documents: DocumentStore,
) -> None:
    past: dict[str, Any] = {"earlier": ("and before?",), "earlier_vectors": (axis(2),)}
    shared = entry("a", shared_key="s-1", vector=axis(1), cost=0.5, **past)
    for stored in (shared, entry("b", shared_key="s-2"), entry("c")):
        await documents.put(stored)
    before = await loaded(documents)
    some = [EntryId("a"), EntryId("c"), EntryId("nobody")]
    assert await documents.approve(some) == 1
    assert await documents.approve(some) == 1  # it is still approved
    assert await documents.approve([]) == 0
    assert_same(await documents.get(EntryId("a")), replace(shared, approved=True))
    after = await loaded(documents)
    assert [stored.held.approved for stored in after] == [True, False, False]
    first, *others = [stored.held for stored in before]
    assert [stored.held for stored in after] == [first.approving(), *others]  # in place
    lines = (await documents.browse(Filter(), limit=9)).entries
    assert [line.id for line in lines if line.approved] == ["a"]


async def test_an_approval_ends_when_the_entry_is_replaced(documents: DocumentStore) -> None:
    a = EntryId("a")
    await asyncio.gather(
        documents.put(entry("a", shared_key="s-1")),
        documents.approve([a]),
        documents.put(entry("a", shared_key="s-1", body=b"another answer")),
    )
    found = await documents.get(a)
    assert found is not None
    assert (found.approved, found.body) == (False, b"another answer")


async def test_writes_take_effect_in_the_order_in_which_they_began(
    documents: DocumentStore,
) -> None:
    a = EntryId("a")
    await asyncio.gather(
        documents.put(entry("a", body=b"first")),
        documents.purge([a]),
        documents.put(entry("a", body=b"second")),
        documents.put(entry("b")),
        documents.purge([EntryId("b")]),
    )
    found = await documents.get(a)
    assert found is not None
    assert found.body == b"second"
    assert await documents.count() == 1


async def test_loading_goes_from_old_to_new_in_batches(documents: DocumentStore) -> None:
    ids = [f"e{number}" for number in range(25)]
    await asyncio.gather(*(documents.put(entry(id)) for id in ids))
    batches = [part async for part in documents.load_all(10)]
    assert [len(part) for part in batches] == [10, 10, 5]
    assert [stored.held.id for part in batches for stored in part] == ids


async def test_loading_nothing_yields_nothing(documents: DocumentStore) -> None:
    assert await loaded(documents) == []


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        pytest.param(Filter(), "dcba", id="all, newest first"),
        pytest.param(Filter(category="fares"), "ca", id="category"),
        pytest.param(Filter(tenant="airport"), "dc", id="tenant"),
        pytest.param(Filter(category="fares", tenant="airport"), "c", id="both"),
        pytest.param(Filter(text="CHEAP"), "cb", id="text in either case"),
        pytest.param(Filter(text="100%"), "d", id="a per cent sign is itself"),
        pytest.param(Filter(text="_"), "a", id="an underscore is itself"),
        pytest.param(Filter(text="\\"), "", id="a backslash is itself"),
        pytest.param(Filter(category="weather"), "", id="an unknown category"),
        pytest.param(Filter(id="b"), "b", id="id"),
        pytest.param(Filter(model="gull-3"), "b", id="model"),
        pytest.param(Filter(tag="night"), "cb", id="tag"),
        pytest.param(Filter(tag="nigh"), "", id="a part of a tag is not the tag"),
        pytest.param(Filter(tag='", "'), "", id="what stands between two tags is no tag"),
        pytest.param(Filter(tag='a "late" one'), "c", id="a tag with quotes"),
        pytest.param(Filter(tag="Night"), "", id="a tag in another case"),
        pytest.param(Filter(prefix="the "), "c", id="prefix"),
        pytest.param(Filter(prefix="The "), "", id="a prefix in another case"),
        pytest.param(Filter(prefix="cheap"), "", id="what stands inside is no prefix"),
        pytest.param(Filter(prefix="is it 100%"), "d", id="a prefix with a wildcard in it"),
        pytest.param(Filter(prefix="%"), "", id="a wildcard is no prefix of all"),
        pytest.param(Filter(prefix="\ud800"), "", id="a prefix that no text can have"),
        pytest.param(Filter(tag="night", tenant="airport", prefix="the"), "c", id="all together"),
    ],
)
async def test_browsing_filters(documents: DocumentStore, filter: Filter, expected: str) -> None:
    for stored in (
        entry("a", category="fares", query="snake_case"),
        entry("b", query="a cheap seat", model="gull-3", tags=("night", "x")),
        entry(
            "c",
            category="fares",
            tenant="airport",
            query="the Cheapest?",
            tags=('a "late" one', "night"),
        ),
        entry("d", tenant="airport", query="is it 100% full?"),
    ):
        await documents.put(stored)
    page = await documents.browse(filter, limit=10)
    assert "".join(line.id for line in page.entries) == expected
    assert page.next is None


async def test_browsing_page_by_page_sees_each_entry_once(documents: DocumentStore) -> None:
    for number in range(7):
        await documents.put(entry(f"e{number}", tags=("t",)))
    seen, cursor, pages = list[str](), None, 0
    while pages < 10:
        page = await documents.browse(Filter(), limit=3, cursor=cursor)
        seen += [line.id for line in page.entries]
        pages, cursor = pages + 1, page.next
        if cursor is None:
            break
        if pages == 1:
            await documents.put(entry("late"))  # on top of what has been shown
    assert seen == [f"e{number}" for number in range(6, -1, -1)]
    assert pages == 3


async def test_a_line_of_a_listing_tells_what_the_entry_is(documents: DocumentStore) -> None:
    stored = entry("a", tags=("x", "y"), vector=axis(1), user="u-1", **SHARED)
    await documents.put(stored)
    (line,) = (await documents.browse(Filter(), limit=1)).entries
    for field in Summary.__dataclass_fields__:
        expected = held_of(stored).size if field == "size" else getattr(stored, field)
        assert getattr(line, field) == expected, field


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1; DROP TABLE entries", "1.5"])
async def test_a_foreign_cursor_is_refused(documents: DocumentStore, cursor: str) -> None:
    with pytest.raises(ValueError, match="is not one that a listing returned"):
        await documents.browse(Filter(), limit=3, cursor=cursor)


async def test_a_working_store_answers_a_ping(documents: DocumentStore) -> None:
    await documents.ping()
    assert await documents.count() == 0


async def test_a_closed_store_is_unavailable(documents: DocumentStore) -> None:
    await documents.aclose()
    for call in (
        documents.put(entry("a")),
        documents.get(EntryId("a")),
        documents.purge([EntryId("a")]),
        documents.discard([Version(EntryId("a"), NOON)]),
        documents.approve([EntryId("a")]),
        documents.count(),
        documents.ping(),
        documents.browse(Filter(), limit=1),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    with pytest.raises(StoreUnavailable):
        await loaded(documents)
