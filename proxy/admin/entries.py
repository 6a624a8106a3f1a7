"""Stored answers: list, inspect, delete, quarantine, approve, purge."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import islice
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from embed.errors import EmbedError
from proxy.admin.access import Access
from proxy.admin.meaning import Neighbor, encoded, nearest, neighbors, not_encoded, passing
from proxy.admin.purge import MEANS_THE_SAME, Near, Purge, matching, similar, told
from proxy.encoding import Encoding
from proxy.errors import ApiError
from proxy.rules import InForce
from proxy.sharing import Sharing
from store.cache import Cache
from store.documents.base import DocumentStore, Filter, Summary
from store.documents.records import BY_ADMIN, AuditRow, Records
from store.entry import Entry, EntryId, Held, size_of
from store.journal import Purging
from store.membership import Membership
from store.quarantine import EVERYBODY, Quarantine, names_of
from store.vectors import nothing_made

MOST_NEAREST = 100  # entries that a search by meaning returns


class QuarantineOrder(BaseModel):
    """Whom to keep an entry from; `lift` lets it be served again."""

    model_config = ConfigDict(extra="forbid")

    tenant: str = Field(EVERYBODY, max_length=64, description="empty: everybody")
    reason: str = Field("", max_length=1000)
    lift: bool = False


class EntriesAdmin:
    """What an operator does with entries."""

    def __init__(
        self,
        *,
        access: Access,
        cache: Cache,
        sharing: Sharing,
        quarantine: Quarantine,
        documents: DocumentStore,
        records: Records,
        in_force: InForce,
        clock: Callable[[], datetime],
        membership: Membership,
        forget_usage: Callable[[str], Awaitable[int]],
    ) -> None:
        self._access = access
        self._cache = cache
        self._sharing = sharing
        self._quarantine = quarantine
        self._documents = documents
        self._records = records
        self._in_force = in_force
        self._clock = clock
        self._membership = membership
        self._forget_usage = forget_usage

    async def list_entries(
        self,
        category: str = "",
        tenant: str = "",
        q: str = "",
        tag: str = "",
        model: str = "",
        meaning: str = "",
        limit: int = 50,
        cursor: str = "",
    ) -> dict[str, Any]:
        """Return a page of entries, newest first; by `meaning` those nearest to a text."""
        check_limit(limit)
        chosen = Filter(category=category, tenant=tenant, text=q, tag=tag, model=model)
        if meaning:
            if q or cursor:
                raise ApiError(400, "meaning goes with neither q nor cursor", param="meaning")
            return await self._nearest(meaning, chosen, limit)
        try:
            page = await self._documents.browse(chosen, limit=limit, cursor=cursor or None)
        except ValueError as error:
            raise ApiError(400, str(error), param="cursor") from None
        live = [
            summary_as_data(entry) | self.standing(held)
            for entry in page.entries
            if (held := self._cache.exact(entry.id)) is not None
        ]
        return {"entries": live, "next": page.next}

    async def _nearest(self, text: str, chosen: Filter, most: int) -> dict[str, Any]:
        if most > MOST_NEAREST:
            raise ApiError(400, f"limit: with meaning 1 to {MOST_NEAREST}", param="limit")
        encoding = self._in_force.rules.encoding
        vector = await encoded(encoding, text, "meaning")
        passes = await passing(self._documents, chosen)
        found = await nearest(self._cache, encoding.checkpoint, vector, passes, most)
        rows = []
        for held, similarity, _ in found.nearest:
            entry = await self._documents.get(held.id)
            if entry is not None and self._cache.exact(held.id) is not None:
                row = {**_heading(entry), "size": size_of(entry), **self.standing(held)}
                rows.append({**row, "similarity": similarity})
        return {"entries": rows, "next": None, "compared": found.compared, "of": found.of}

    async def show_entry(self, id: str) -> dict[str, Any]:
        """Return one entry with its answer, and which others speak against sharing it."""
        held = self._cache.exact(EntryId(id))
        entry = await self._documents.get(EntryId(id)) if held is not None else None
        if held is None or entry is None:
            raise _no_entry(id)
        return {
            **entry_as_data(entry),
            "size": size_of(entry),
            **self.standing(held),
            "disputed_by": await self._sharing.disputed_by(entry),
        }

    async def list_neighbors(self, id: str) -> dict[str, Any]:
        """Return the nearest entries of an entry's partition, and what would keep them apart."""
        held = self._cache.exact(EntryId(id))
        if held is None:
            raise _no_entry(id)
        found = await neighbors(self._cache, self._in_force.rules, held)
        rows = [] if found is None else [self._beside(neighbor) for neighbor in found]
        return {"neighbors": rows, "comparable": found is not None, "next": None}

    async def delete_entry(self, id: str, request: Request) -> dict[str, Any]:
        """Remove one entry; nothing serves it after the return, on no replica."""
        await self._before_purge(Purge(id=id))
        if await self._cache.remove([EntryId(id)]) == 0:
            raise _no_entry(id)
        await self._membership.settled()
        await self._audit(request, "entry.delete", {"id": id})
        return {"deleted": id}

    async def quarantine(
        self, id: str, request: Request, order: QuarantineOrder | None = None
    ) -> dict[str, Any]:
        """Stop an entry from being served, or let it be served again; durable on return."""
        order = order or QuarantineOrder(tenant=EVERYBODY, reason="")
        held = self._cache.exact(EntryId(id))
        names = names_of(EntryId(id), "" if held is None else held.shared_key)
        if order.lift:
            if not any([await self._quarantine.lift(name) for name in names]):
                raise ApiError(404, f"entry {id} is not quarantined", param="id", code="not_found")
        elif held is None:
            raise _no_entry(id)
        else:
            why = BY_ADMIN + order.reason
            for name in names:
                await self._quarantine.add(name, order.tenant, self._clock(), why)
            await self._membership.settled()
        action = "entry.release" if order.lift else "entry.quarantine"
        await self._audit(request, action, {"id": id, **order.model_dump(exclude={"lift"})})
        return {"id": id, "quarantined_for": self.kept_from(EntryId(id))}

    async def list_quarantined(
        self, gone: bool = False, limit: int = 50, cursor: str = ""
    ) -> dict[str, Any]:
        """Return a page of what is stopped, by id; with `gone` only where nothing is stored."""
        check_limit(limit)
        found = self._quarantine.after(
            cursor, limit + 1, lambda id: not gone or self._stopped(id) == "gone"
        )
        rows = [
            {"id": id, "quarantined_for": self.kept_from(id), "stops": self._stopped(id)}
            for id in found[:limit]
        ]
        return {"quarantined": rows, "next": found[limit - 1] if len(found) > limit else None}

    def _stopped(self, id: EntryId) -> str:
        """Return what is stored of something that is stopped."""
        if self._cache.exact(id) is not None:
            return "entry"
        return "request" if self._cache.twins(id) else "gone"

    async def approve(self, id: str, request: Request) -> dict[str, Any]:
        """Let an entry of scope shared serve other tenants, without waiting for a second answer."""
        held = self._cache.exact(EntryId(id))
        if held is None:
            raise _no_entry(id)
        if not held.shared_key:
            raise ApiError(
                409, f"entry {id} was not stored in scope shared", param="id", code="not_shared"
            )
        await self._cache.approve([held.id])
        await self._audit(request, "entry.approve", {"id": id})
        return {"approved": id}

    async def purge(self, purge: Purge, request: Request) -> dict[str, int]:
        """Remove every entry that the selector names; count only on a dry run.

        With a tenant go its labelled pairs, what is kept from it by name, and its name in the
        usage ledger.
        """
        encoding = self._in_force.rules.encoding
        near = await self._near(purge, encoding)
        if not purge.dry_run:
            await self._before_purge(near or purge)
        found, matched = await self._selected(purge, near, encoding)
        if purge.dry_run:
            return {"matched": matched, "purged": 0}
        # All that is stored, held or not: a row whose deletion failed before must not come back.
        purged = await self._cache.remove(found)
        done = {"matched": matched, "purged": matched if self._membership.shared else purged}
        if purge.tenant is not None:
            done |= (await self._quarantine.forget_tenant(purge.tenant))._asdict()
            await self._forget_usage(purge.tenant)
        await self._membership.settled()
        wanted = purge.model_dump(exclude_none=True, exclude={"dry_run"})
        await self._audit(request, "purge", {**wanted, **done})
        return done

    async def preview(self, purge: Purge, most: int) -> tuple[int, list[Held]]:
        """Return how many entries a purge would remove, and some of them."""
        encoding = self._in_force.rules.encoding
        near = await self._near(purge, encoding)
        found, matched = await self._selected(purge, near, encoding)
        live = (held for id in found if (held := self._cache.exact(id)) is not None)
        return matched, list(islice(live, most))

    async def _before_purge(self, purge: Purge | Near) -> None:
        """Have a purge miss nothing that is on its way now, here or on another replica."""
        if self._membership.shared:
            await self._membership.tell(Purging(told(purge)))
            await self._membership.settled()
        await self._cache.purges.begin(purge.selects)

    async def _selected(
        self, purge: Purge, near: Near | None, encoding: Encoding
    ) -> tuple[list[EntryId], int]:
        """Return what a purge removes, and how many of them are live."""
        if near is None:
            found = await matching(self._documents, purge)
        else:
            found = await self._at_least(near, encoding)
        if self._membership.shared:  # another replica may hold what this one does not yet
            return found, len(found)
        return found, sum(self._cache.exact(id) is not None for id in found)

    async def _near(self, purge: Purge, encoding: Encoding) -> Near | None:
        """Return what a purge by meaning selects; None for any other."""
        if purge.similar_to is None:
            return None
        vector = await encoded(encoding, purge.similar_to, "similar_to")
        threshold = MEANS_THE_SAME if purge.threshold is None else purge.threshold
        return Near(vector, threshold, encoding.checkpoint)

    async def _at_least(self, near: Near, encoding: Encoding) -> list[EntryId]:
        made = self._cache.vectors[encoding.checkpoint].made
        # None: no other checkpoint has ever served.
        made_of_others = None if made is nothing_made else made
        try:
            return await similar(self._documents, near, encoding.encoder, made_of_others)
        except EmbedError as error:
            raise not_encoded("similar_to", error) from None

    def standing(self, held: Held) -> dict[str, Any]:
        """Return what changes of an entry while it is stored: whom it serves, use, time left."""
        book = self._in_force.rules.book
        policy = book[held.category] if held.category in book else None
        age = self._clock() - held.created_at
        return {
            "quarantined_for": self.kept_from(held.id),
            "hits": round(self._cache.hits(held.id), 2),
            "expires_in": None if policy is None else (policy.ttl - age).total_seconds(),
        }

    def _beside(self, neighbor: Neighbor) -> dict[str, Any]:
        held = neighbor.held
        return {
            "id": held.id,
            "query": held.query,
            "category": held.category,
            "tenant": held.tenant,
            "similarity": neighbor.similarity,
            "vetoes": list(neighbor.vetoes),
            "threshold": neighbor.threshold,
            "budgeted": neighbor.budgeted,
            "same_past": neighbor.same_past,
            **self.standing(held),
        }

    def kept_from(self, id: EntryId) -> list[str]:
        """Return the tenants that an entry is not served to; also of one that is gone."""
        held = self._cache.exact(id)
        names = names_of(id, "" if held is None else held.shared_key)
        kept = frozenset[str]().union(*(self._quarantine.tenants(name) for name in names))
        return sorted(tenant or "everybody" for tenant in kept)

    async def _audit(self, request: Request, action: str, what: dict[str, Any]) -> None:
        who, at = self._access.who(request), self._clock()
        await self._records.add_audit(audit_row(at, who, action, what))


def audit_row(at: datetime, who: str, action: str, what: dict[str, Any]) -> AuditRow:
    """Return the trail's row of something done to entries."""
    return AuditRow(at=at, who=who, action=action, after=json.dumps(what))


def check_limit(limit: int) -> None:
    """Raise ApiError unless a page may be this long."""
    if not 1 <= limit <= 1000:
        raise ApiError(400, f"limit: {limit} is not allowed; allowed: 1 to 1000", param="limit")


def entry_as_data(entry: Entry) -> dict[str, Any]:
    """Return an entry with its answer as plain values."""
    answer = entry.body.decode("utf-8", "replace")
    return {
        **_heading(entry),
        "earlier": list(entry.earlier),
        "key_id": entry.key_id,
        "checkpoint": entry.checkpoint if entry.vector is not None else "",
        "classifier": entry.classifier,
        "cost": entry.cost,
        "shared": bool(entry.shared_key),
        "content_type": entry.content_type,
        "answer": answer,
    }


def summary_as_data(entry: Summary) -> dict[str, Any]:
    """Return one line of a listing as plain values."""
    return {**_heading(entry), "size": entry.size}


def _heading(entry: Entry | Summary) -> dict[str, Any]:
    return {
        "id": entry.id,
        "tenant": entry.tenant,
        "user": entry.user,
        "category": entry.category,
        "route": entry.route,
        "model": entry.model,
        "query": entry.query,
        "tags": list(entry.tags),
        "created_at": entry.created_at.isoformat(),
        "approved": entry.approved,
    }


def _no_entry(id: str) -> ApiError:
    return ApiError(404, f"there is no entry {id}", param="id", code="not_found")
