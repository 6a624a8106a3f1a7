"""The page of all entries: found by text, by meaning, and by what they are labelled with."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from proxy.admin.entries import EntriesAdmin
from proxy.dashboard.entry_values import listed
from proxy.dashboard.pages import Pages
from proxy.errors import ApiError
from proxy.rules import InForce

_AT_ONCE = 50  # rows of one page
_LABELS = ("category", "tenant", "tag", "model")
_LONGEST = 10_000  # characters that are searched for


class EntriesPage:
    """Lists entries."""

    def __init__(self, pages: Pages, entries: EntriesAdmin, in_force: InForce) -> None:
        self._pages = pages
        self._entries = entries
        self._in_force = in_force

    async def show(self, request: Request) -> Response:
        """Return one part of the entries that pass, newest first, or those nearest to a text."""
        wanted = asked_for(request.query_params)
        by_meaning = wanted["by"] == "meaning" and bool(wanted["find"])
        cursor = request.query_params.get("cursor", "")
        fault = ""
        try:
            found = await self._entries.list_entries(
                **{name: wanted[name] for name in _LABELS},
                q="" if by_meaning else wanted["find"],
                meaning=wanted["find"] if by_meaning else "",
                limit=_AT_ONCE,
                cursor="" if by_meaning else cursor,
            )
        except ApiError as error:
            if error.code != "text_unreadable":
                raise
            found = {"entries": [], "next": None}
            fault = "The encoder cannot read this text whole: shorten or reword it."
        here = "/admin/entries"
        given = {name: value for name, value in wanted.items() if value}
        return self._pages.show(
            request,
            "entries.html",
            status=400 if fault else 200,
            fault=fault,
            rows=listed(found["entries"]),
            next=found["next"],
            path=f"{here}?{urlencode(given)}" if given else here,
            wanted=wanted,
            chosen=any(wanted[name] for name in ("find", *_LABELS)),
            by_meaning=by_meaning,
            compared=found.get("compared"),
            of=found.get("of"),
            categories=self._in_force.rules.book.names,
            first=not cursor,
        )

    async def stopped(self, request: Request) -> Response:
        """Return one part of what is quarantined, also where the entry is gone."""
        gone = request.query_params.get("gone") == "true"
        cursor = request.query_params.get("cursor", "")
        found = await self._entries.list_quarantined(gone=gone, limit=_AT_ONCE, cursor=cursor)
        return self._pages.show(
            request,
            "entries_stopped.html",
            rows=found["quarantined"],
            next=found["next"],
            gone=gone,
        )


def asked_for(query: Mapping[str, str]) -> dict[str, str]:
    """Return what a search names, "" where it names nothing. Raises ApiError."""
    wanted = {name: query.get(name, "").strip() for name in _LABELS}
    wanted["find"] = query.get("find", "").strip()
    wanted["by"] = "meaning" if query.get("by") == "meaning" else ""
    if len(wanted["find"]) > _LONGEST:
        raise ApiError(400, f"find: at most {_LONGEST} characters", param="find")
    return wanted
