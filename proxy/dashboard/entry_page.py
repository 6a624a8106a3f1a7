"""The page of one entry: what it says, where it is from, what stands near it, and what to do."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from proxy.admin.entries import EntriesAdmin, QuarantineOrder
from proxy.admin.trail import TrailAdmin
from proxy.dashboard.entry_values import (
    answer_of,
    apart,
    listed,
    never_served,
    served_to,
    short,
    state_of,
)
from proxy.dashboard.forms import fields
from proxy.dashboard.pages import Pages, must_edit
from proxy.errors import ApiError
from proxy.rules import InForce
from store.entry import EntryId


class EntryPage:
    """Shows an entry, and does with it what an admin wants."""

    def __init__(
        self, pages: Pages, entries: EntriesAdmin, trail: TrailAdmin, in_force: InForce
    ) -> None:
        self._pages = pages
        self._entries = entries
        self._trail = trail
        self._in_force = in_force

    async def show(self, request: Request) -> Response:
        """Return the page of an entry, or one that says that it is gone."""
        id = request.path_params["id"]
        entry = await self._entry(id)
        if entry is None:
            return self._gone(request, id)
        answer = await asyncio.to_thread(answer_of, entry["route"], entry["answer"])
        return self._pages.show(request, "entry.html", answer=answer, **self._values(entry))

    async def around(self, request: Request) -> Response:
        """Return the part with an entry's neighbours, and what was said of its answers."""
        id = request.path_params["id"]
        found = await self._entries.list_neighbors(id)
        entry = await self._entries.show_entry(id)
        said = await self._trail.pairs_about(id, entry["category"])
        rows = [{**row, "apart": apart(row)} for row in listed(found["neighbors"])]
        return self._pages.show(
            request,
            "entry_around.html",
            rows=rows,
            comparable=found["comparable"],
            pairs=[{**pair, "short": short(pair["query"])} for pair in said["pairs"]],
            complete=said["complete"],
        )

    async def delete(self, request: Request) -> Response:
        """Remove the entry for good."""
        must_edit(request)
        id = request.path_params["id"]
        await self._entries.delete_entry(id, request)
        return self._pages.show(request, "entry_deleted.html", id=id)

    async def quarantine(self, request: Request) -> Response:
        """Keep the entry from a tenant, or from everybody."""
        must_edit(request)
        id, form = request.path_params["id"], await fields(request)
        typed = {"tenant": form.get("tenant", "").strip(), "reason": form.get("reason", "").strip()}
        try:
            order = QuarantineOrder(**typed)
        except ValidationError as error:
            return await self._state(request, id, "", typed=typed, faults=faults(error))
        entry = await self._entry(id)
        if entry is not None and (fault := never_served(entry, order.tenant)):
            return await self._state(request, id, "", typed=typed, faults={"tenant": fault})
        await self._entries.quarantine(id, request, order)
        whom = f"tenant {order.tenant} is not" if order.tenant else "nobody is"
        return await self._state(request, id, f"Quarantined: {whom} served this answer any more.")

    async def lift(self, request: Request) -> Response:
        """Let the entry be served again; or, if it is gone, another be stored in its place."""
        must_edit(request)
        id = request.path_params["id"]
        await self._entries.quarantine(id, request, QuarantineOrder(lift=True))
        return await self._state(request, id, "The quarantine is lifted.")

    async def approve(self, request: Request) -> Response:
        """Let an entry of scope shared serve other tenants."""
        must_edit(request)
        id = request.path_params["id"]
        await self._entries.approve(id, request)
        return await self._state(request, id, "Approved: other tenants may be served this answer.")

    async def _state(self, request: Request, id: str, done: str, **form: Any) -> Response:
        entry = await self._entry(id)
        if entry is None:
            return self._gone(request, id, "entry_gone_part.html", done=done)
        values = self._values(entry, **form)
        return self._pages.show(request, "entry_state.html", done=done, **values)

    def _values(
        self,
        entry: dict[str, Any],
        typed: dict[str, str] | None = None,
        faults: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        book = self._in_force.rules.book
        policy = book[entry["category"]] if entry["category"] in book else None
        return {
            "entry": entry,
            "state": state_of(entry),
            "served_to": served_to(entry, None if policy is None else policy.scope),
            "ttl": None if policy is None else policy.ttl.total_seconds(),
            "typed": typed or {"tenant": "", "reason": ""},
            "faults": {"tenant": "", "reason": "", **(faults or {})},
        }

    def _gone(
        self, request: Request, id: str, template: str = "entry_gone.html", done: str = ""
    ) -> Response:
        kept = self._entries.kept_from(EntryId(id))
        status = 200 if done else 404
        return self._pages.show(request, template, status=status, id=id, kept=kept, done=done)

    async def _entry(self, id: str) -> dict[str, Any] | None:
        try:
            return await self._entries.show_entry(id)
        except ApiError as error:
            if error.code != "not_found":
                raise
            return None


def faults(error: ValidationError) -> dict[str, str]:
    """Return what is wrong with a form, by field."""
    return {str(each["loc"][0]): each["msg"] for each in error.errors() if each["loc"]}
