"""Records in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TypeVar

from store.documents.base import position
from store.documents.records import (
    BY_ADMIN,
    AuditRow,
    Bounds,
    Forgotten,
    Listing,
    Pair,
    PolicyVersion,
    check_state,
)
from store.entry import Entry, EntryId
from store.errors import StoreUnavailable, VersionTaken
from store.journal import Change, Released, Stopped, TenantForgotten

T = TypeVar("T")


class Shelf(Protocol):
    """Where the entries are: the fake of the document store."""

    entries: dict[EntryId, Entry]

    def check(self) -> None: ...

    def tell(self, change: Change) -> None: ...


class Series(dict[int, T]):
    """Numbered items, the oldest first, at most `keep` of them."""

    def __init__(self, keep: int) -> None:
        super().__init__()
        self._keep = keep
        self.newest = 0

    def add(self, item: T, replaces: Callable[[T], bool] = lambda _: False) -> int:
        for number in [number for number, other in self.items() if replaces(other)]:
            del self[number]
        self.newest += 1
        self[self.newest] = item
        for number in list(self)[: -self._keep]:
            del self[number]
        return self.newest

    def listing(
        self, limit: int, cursor: str | None, chosen: Callable[[T], bool] = lambda _: True
    ) -> Listing[T]:
        before = position(cursor)
        found = [n for n in sorted(self, reverse=True) if n < before and chosen(self[n])]
        more = str(found[limit - 1]) if len(found) > limit else None
        return Listing(tuple(self[number] for number in found[:limit]), more)


class MemoryRecords:
    """The Records of a document store in memory. Set `failing` to refuse calls."""

    def __init__(self, shelf: Shelf, bounds: Bounds | None = None) -> None:
        bounds = bounds or Bounds()
        self.failing = False
        self._shelf = shelf
        self._versions = Series[PolicyVersion](bounds.versions)
        self._audit = Series[AuditRow](bounds.audit)
        self._pairs = Series[Pair](bounds.pairs)
        self._quarantine = Series[tuple[EntryId, str]](bounds.quarantine + 1)
        self._by_admin: set[tuple[EntryId, str]] = set()
        self._most_quarantined = bounds.quarantine
        self._budgets: dict[str, str] = {}
        self._states: dict[str, str] = {}

    async def add_version(
        self,
        version: PolicyVersion,
        audit: AuditRow,
        *,
        after: int | None = None,
        state: tuple[str, str] | None = None,
    ) -> int:
        self._check()
        if after is not None and after != self._versions.newest:
            raise VersionTaken("not the newest")
        number = self._versions.newest + 1
        self._audit.add(audit)
        if state is not None:
            self._states[state[0]] = state[1]
        return self._versions.add(replace(version, number=number))

    async def latest_version(self) -> PolicyVersion | None:
        self._check()
        return self._versions.get(self._versions.newest)

    async def version(self, number: int) -> PolicyVersion | None:
        self._check()
        return self._versions.get(number)

    async def versions(self, *, limit: int, cursor: str | None = None) -> Listing[PolicyVersion]:
        self._check()
        return self._versions.listing(limit, cursor)

    async def add_audit(self, row: AuditRow) -> None:
        self._check()
        self._audit.add(row)

    async def audit(self, *, limit: int, cursor: str | None = None) -> Listing[AuditRow]:
        self._check()
        return self._audit.listing(limit, cursor)

    async def add_pair(self, pair: Pair) -> None:
        self._check()
        same = (pair.tenant, pair.event)
        self._pairs.add(pair, lambda other: (other.tenant, other.event) == same)

    async def pairs(
        self, *, limit: int, cursor: str | None = None, category: str | None = None
    ) -> Listing[Pair]:
        self._check()
        return self._pairs.listing(
            limit, cursor, lambda pair: category is None or pair.category == category
        )

    async def quarantine(self, entry_id: EntryId, tenant: str, at: datetime, why: str) -> None:
        self._check()
        new, admins = (entry_id, tenant), self._by_admin
        self._quarantine.add(new, lambda other: other == new)
        admins.discard(new)
        admins |= {new} if why.startswith(BY_ADMIN) else set()
        self._shelf.tell(Stopped(*new))
        if len(self._quarantine) > self._most_quarantined:
            others = [row for row in self._quarantine.values() if row != new]
            theirs = [row for row in others if row not in admins]
            own = [row for row in theirs if row[1] == tenant]
            leaving = [*own, *theirs, *(others if new in admins else ()), new][0]
            await self.release(*leaving)

    async def release(self, entry_id: EntryId, tenant: str) -> bool:
        self._check()
        found = [n for n, pair in self._quarantine.items() if pair == (entry_id, tenant)]
        for number in found:
            del self._quarantine[number]
            self._shelf.tell(Released(entry_id, tenant))
        return bool(found)

    async def quarantined(self) -> list[tuple[EntryId, str]]:
        self._check()
        return list(self._quarantine.values())

    async def forget_tenant(self, tenant: str) -> Forgotten:
        self._check()
        pairs = [n for n, pair in self._pairs.items() if pair.tenant == tenant]
        stops = [n for n, (_, whose) in self._quarantine.items() if whose == tenant]
        for number in pairs:
            del self._pairs[number]
        for number in stops:
            del self._quarantine[number]
        self._shelf.tell(TenantForgotten(tenant))
        return Forgotten(len(pairs), len(stops))

    async def find_answer(self, tenant: str, answer_id: str) -> EntryId | None:
        self._check()
        found = [e for e in self._shelf.entries.values() if answer_id and e.answer_id == answer_id]
        own = [entry.id for entry in found if entry.tenant == tenant]
        approved = [entry.id for entry in found if entry.approved and entry.shared_key]
        return (approved + own)[-1] if approved + own else None

    async def save_budget(self, category: str, state: str) -> None:
        self._check()
        self._budgets.pop(category, None)
        if state:
            self._budgets[category] = state

    async def budgets(self) -> dict[str, str]:
        self._check()
        return dict(self._budgets)

    async def save_state(self, name: str, state: str) -> None:
        check_state(state)
        self._check()
        self._states.pop(name, None)
        if state:
            self._states[name] = state

    async def states(self) -> dict[str, str]:
        self._check()
        return dict(self._states)

    def _check(self) -> None:
        self._shelf.check()
        if self.failing:
            raise StoreUnavailable("the records in memory are out of order")
