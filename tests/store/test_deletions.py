"""Rows that are owed a deletion go, but for those that are wanted again by then."""

from __future__ import annotations

from collections.abc import Sequence

from store.deletions import Deletions
from store.entry import EntryId
from store.errors import StoreUnavailable

A, B = EntryId("a"), EntryId("b")


class Rows:
    """Notes what is deleted, and can be made to fail."""

    def __init__(self) -> None:
        self.wanted: set[EntryId] = set()
        self.deleted: list[EntryId] = []
        self.failing = False
        self.deletions = Deletions(self.delete, wanted=lambda id: id in self.wanted)

    async def delete(self, ids: Sequence[EntryId]) -> int:
        if self.failing:
            raise StoreUnavailable("out of order")
        self.deleted += ids
        return len(ids)


async def test_what_is_stored_again_before_its_deletion_stays() -> None:
    rows = Rows()
    rows.deletions.owe(A)
    rows.deletions.owe(B)
    rows.wanted.add(A)  # by another process, say, or by what the journal has since
    await rows.deletions.aclose()
    assert rows.deleted == [B]
    assert len(rows.deletions) == 0


async def test_a_deletion_that_fails_is_owed_still() -> None:
    rows = Rows()
    rows.failing = True
    rows.deletions.owe(A)
    await rows.deletions.aclose()
    assert A in rows.deletions
    rows.failing = False
    await rows.deletions.aclose()
    assert rows.deleted == [A]
