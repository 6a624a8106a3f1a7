"""Entries that may not be served: to one tenant, or to anybody. Feedback and admins put them here.

Memory first, so that an entry stops at once; then durable, so that it stays stopped. What leaves
for want of room the records choose, and `apply` is told. An entry keeps its standing when a new
answer takes its place: whoever got it as a wrong answer to another question would get the next one
too.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Self

from store.documents.records import BY_ADMIN, Bounds, Forgotten, Records
from store.entry import EntryId, Held
from store.journal import Record, Released, Stopped, TenantForgotten

EVERYBODY = ""  # stands for all tenants
MAX_QUARANTINED = Bounds().quarantine  # entries
RESTORED = "restored"


def names_of(id: EntryId, shared_key: str) -> tuple[EntryId, ...]:
    """Return what an entry is stopped under: its id and, in scope shared, the request it answers.

    Twins of one answer mostly say the same, so whoever called one wrong is served none of another
    tenant; and what is said of them adds up, even of one that is gone by then.
    """
    return (id, EntryId(shared_key)) if shared_key else (id,)


class Quarantine:
    """Who may not be served which entry. All methods are called from one event loop."""

    def __init__(
        self,
        records: Records,
        held: Iterable[tuple[EntryId, str]] = (),
        most: int = MAX_QUARANTINED,
    ) -> None:
        self._records = records
        self._most = most
        self._tenants: dict[EntryId, set[str]] = {}
        self._unwritten: set[tuple[EntryId, str]] = set()  # stopped here, and maybe not recorded
        for id, tenant in held:
            self._tenants.setdefault(id, set()).add(tenant)

    @classmethod
    async def open(cls, records: Records) -> Self:
        """Restore what is recorded; raise StoreUnavailable."""
        return cls(records, await records.quarantined())

    async def reload(self, *, forgotten: bool) -> None:
        """Take up what is recorded now; raise StoreUnavailable.

        What is stopped here is recorded again if records have been `forgotten`. Else what is not
        recorded any more was released meanwhile, but for what could not be recorded.
        """
        before, unwritten = set(self.stops()), set(self._unwritten)
        recorded = set(await self._records.quarantined())
        for id, tenant in sorted(before - recorded):
            if forgotten or (id, tenant) in unwritten:
                # Who said so is lost: what everybody is kept from counts as an admin's.
                why = RESTORED if tenant else BY_ADMIN + RESTORED
                await self._records.quarantine(id, tenant, datetime.now(UTC), why)
            else:
                self._release(id, tenant)
        for id, tenant in recorded:
            self._stop(id, tenant)
        self._unwritten -= unwritten

    def stops(self) -> list[tuple[EntryId, str]]:
        """Return every stopped entry with each tenant that it is kept from."""
        return [(id, tenant) for id, tenants in self._tenants.items() for tenant in tenants]

    def after(self, id: str, most: int, passes: Callable[[EntryId], bool]) -> list[EntryId]:
        """Return the first so many stopped ones after an id, in the order of their ids."""
        later = (each for each in self._tenants if each > id and passes(each))
        return heapq.nsmallest(most, later)

    def apply(self, record: Record) -> None:
        """Take up a change that is durable, of this process or of another."""
        change = record.change
        if isinstance(change, Stopped):
            self._stop(change.entry_id, change.tenant)
        elif isinstance(change, Released):
            self._release(change.entry_id, change.tenant)
        elif isinstance(change, TenantForgotten):
            self._forget(change.tenant)

    def holds(self, id: EntryId, tenant: str) -> bool:
        """Whether this tenant may not be served the entry."""
        tenants = self._tenants.get(id)
        return tenants is not None and (tenant in tenants or EVERYBODY in tenants)

    def keeps(self, held: Held, tenant: str) -> bool:
        """Whether this tenant may not be served the entry, by its id or as another's twin."""
        if self.holds(held.id, tenant):
            return True
        foreign = held.shared_key != "" and held.tenant != tenant
        return foreign and self.holds(EntryId(held.shared_key), tenant)

    def tenants(self, id: EntryId) -> frozenset[str]:
        """Return whom the entry is kept from; EVERYBODY stands for all."""
        return frozenset(self._tenants.get(id, ()))

    async def add(self, id: EntryId, tenant: str, at: datetime, why: str) -> None:
        """Stop the entry for a tenant, or for EVERYBODY; durable on return.

        `why` begins with BY_ADMIN if an operator said so: that never leaves for a tenant's word.
        Raises StoreUnavailable; the entry is stopped in this process all the same.
        """
        if id in self._tenants or len(self._tenants) < self._most:  # else it waits for its record
            self._stop(id, tenant)
            self._unwritten.add((id, tenant))
        await self._records.quarantine(id, tenant, at, why)
        self._unwritten.discard((id, tenant))

    async def lift(self, id: EntryId) -> bool:
        """Let the entry be served again; return whether it was stopped. Raises StoreUnavailable."""
        tenants = self._tenants.get(id)
        if not tenants:
            return False
        for tenant in list(tenants):  # durable first: a failure must not set it free
            await self._records.release(id, tenant)
            self._release(id, tenant)
        return True

    async def forget_tenant(self, tenant: str) -> Forgotten:
        """Forget what a tenant labelled, and what was kept from it alone; return how much.

        What is kept from everybody stays. Raises StoreUnavailable, and then forgets nothing.
        """
        forgotten = await self._records.forget_tenant(tenant)
        self._forget(tenant)
        return forgotten

    def _stop(self, id: EntryId, tenant: str) -> None:
        self._tenants.setdefault(id, set()).add(tenant)

    def _release(self, id: EntryId, tenant: str) -> None:
        self._unwritten.discard((id, tenant))
        tenants = self._tenants.get(id)
        if tenants is not None:
            tenants.discard(tenant)
            if not tenants:
                del self._tenants[id]

    def _forget(self, tenant: str) -> None:
        for id in [id for id, tenants in self._tenants.items() if tenant in tenants]:
            self._release(id, tenant)

    def __len__(self) -> int:
        return len(self._tenants)
