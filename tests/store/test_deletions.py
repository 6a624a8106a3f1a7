"""Rows that are owed a deletion go, but for those that are wanted again by then."""

from __future__ import annotations

from collections.abc import Sequence

from store.deletions import Deletions
from store.entry import EntryId, Version
from store.errors import StoreUnavailable
from tests.entries import NOON

A, B = Version(EntryId("a"), NOON), Version(EntryId("b"), NOON)


class Rows:
    """Notes what is deleted, and can be made to fail."""

    def __init__(self) -> None:
        self.wanted: set[Version] = set()
        self.deleted: list[Version] = []
        self.failing = False
        self.deletions = Deletions(self.discard, wanted=self.wanted.__contains__)

    async def discard(self, versions: Sequence[Version]) -> int:
        if self.failing:
            raise StoreUnavailable("out of order")
        self.deleted += versions
        return len(versions)


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
