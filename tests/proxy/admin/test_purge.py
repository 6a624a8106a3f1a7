"""What another replica is told of a purge selects the same there."""

from __future__ import annotations

import pytest

from proxy.admin.purge import Near, Purge, heard, take_out, told
from store.entry import EntryId
from store.journal import Record, Removed
from tests.entries import CHECKPOINT, axis, entry, near
from tests.fakes_documents import MemoryDocuments

ENTRIES = [
    entry("a", tenant="harbour", category="fares", tags=("night",), vector=axis(0)),
    entry("b", tenant="airport", model="tern", query="is it full?", vector=near(0, 0.8)),
    entry("c", vector=None),
    entry("d", vector=axis(0), checkpoint="another"),
]


@pytest.mark.parametrize(
    ("purge", "expected"),
    [
        (Purge(all=True), "abcd"),
        (Purge(id="b"), "b"),
        (Purge(tenant="harbour"), "acd"),
        (Purge(category="fares"), "a"),
        (Purge(model="tern"), "b"),
        (Purge(tag="night"), "a"),
        (Purge(prefix="is it"), "b"),
        (Near(axis(0), 0.75, CHECKPOINT), "ab"),
        (Near(axis(0), 0.9, CHECKPOINT), "a"),
    ],
)
def test_a_purge_selects_the_same_wherever_it_is_heard_of(
    purge: Purge | Near, expected: str
) -> None:
    for selects in (purge.selects, heard(told(purge))):
        assert "".join(each.id for each in ENTRIES if selects(each)) == expected


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"purge": {"color": "red"}}', b'{"purge": 1}', b'{"near": [1]}']
)
def test_what_a_later_version_tells_selects_everything(data: bytes) -> None:
    assert all(map(heard(data), ENTRIES))


async def test_however_much_is_taken_out_no_single_write_is_large() -> None:
    """A write has one budget of time: 200,000 ids in one never got through to Redis."""
    documents, told = MemoryDocuments(), list[Record]()
    for number in range(1_200):
        await documents.put(entry(f"e{number}"))
    documents.follow(told.append)
    assert await take_out(documents, [*documents.entries, EntryId("gone")]) == 1_200
    assert documents.entries == {}
    sizes = [len(each.change.ids) for each in told if isinstance(each.change, Removed)]
    assert sizes == [500, 500, 200]
