"""The page of the audit trail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from proxy.admin.trail import TrailAdmin
from proxy.dashboard.pages import Pages

_LONGEST = 200  # characters of one value


class Change(NamedTuple):
    """One key that an action changed; None: it was, or is, not there."""

    key: str
    before: str | None
    after: str | None


class AuditPage:
    """Shows who did what."""

    def __init__(self, pages: Pages, trail: TrailAdmin) -> None:
        self._pages = pages
        self._trail = trail

    async def show(self, request: Request) -> Response:
        """Return one part of the trail, the newest first."""
        listed = await self._trail.list_audit(cursor=request.query_params.get("cursor", ""))
        rows = [{**row, "changes": changes(row["before"], row["after"])} for row in listed["audit"]]
        return self._pages.show(request, "audit.html", rows=rows, next=listed["next"])


def changes(before: object, after: object) -> list[Change]:
    """Return what differs between two values of the trail, key by key."""
    was, now = _keys(before), _keys(after)
    return [
        Change(key, _text(was, key), _text(now, key))
        for key in dict.fromkeys([*was, *now])
        if was.get(key) != now.get(key) or (key in was) != (key in now)
    ]


def _keys(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"": value}


def _text(values: Mapping[str, Any], key: str) -> str | None:
    if key not in values:
        return None
    value = values[key]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
