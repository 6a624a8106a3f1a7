"""Entries that may not be served: to one tenant, or to anybody. Feedback and admins put them here.

Memory first, so that an entry stops at once; then durable, so that it stays stopped. An entry
keeps its standing when a new answer takes its place: whoever got it as a wrong answer to another
question would get the next one too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Self

from store.documents.records import Bounds, Forgotten, Records
from store.entry import EntryId

EVERYBODY = ""  # stands for all tenants
MAX_QUARANTINED = Bounds().quarantine  # entries


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
        for id, tenant in held:
            self._tenants.setdefault(id, set()).add(tenant)

    @classmethod
    async def open(cls, records: Records) -> Self:
        """Restore what is recorded; raise StoreUnavailable."""
        return cls(records, await records.quarantined())

    def holds(self, id: EntryId, tenant: str) -> bool:
        """Whether this tenant may not be served the entry."""
        tenants = self._tenants.get(id)
        return tenants is not None and (tenant in tenants or EVERYBODY in tenants)

    def tenants(self, id: EntryId) -> frozenset[str]:
        """Return whom the entry is kept from; EVERYBODY stands for all."""
        return frozenset(self._tenants.get(id, ()))

    async def add(self, id: EntryId, tenant: str, at: datetime, why: str) -> None:
        """Stop the entry for a tenant, or for EVERYBODY; durable on return.

        Raises StoreUnavailable; the entry is stopped in this process all the same.
        """
        self._tenants.setdefault(id, set()).add(tenant)
        if len(self._tenants) > self._most:  # the records let go of their oldest as well
            del self._tenants[next(iter(self._tenants))]
        await self._records.quarantine(id, tenant, at, why)

    async def lift(self, id: EntryId) -> bool:
        """Let the entry be served again; return whether it was stopped. Raises StoreUnavailable."""
        tenants = self._tenants.get(id)
        if not tenants:
            return False
        for tenant in list(tenants):  # durable first: a failure must not set it free
            await self._records.release(id, tenant)
            tenants.discard(tenant)
        self._tenants.pop(id, None)
        return True

    async def forget_tenant(self, tenant: str) -> Forgotten:
        """Forget what a tenant labelled, and what was kept from it alone; return how much.

        What is kept from everybody stays. Raises StoreUnavailable, and then forgets nothing.
        """
        forgotten = await self._records.forget_tenant(tenant)
        for id in [id for id, tenants in self._tenants.items() if tenant in tenants]:
            self._tenants[id].discard(tenant)
            if not self._tenants[id]:
                del self._tenants[id]
        return forgotten

    def __len__(self) -> int:
        return len(self._tenants)
