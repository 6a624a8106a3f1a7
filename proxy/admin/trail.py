"""What was recorded: the audit trail and the labelled pairs; and the numbers of this moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from proxy.admin.entries import check_limit
from proxy.errors import ApiError
from store.documents.records import AuditRow, Pair, Records

PAIRS_LOOKED_AT = 5_000  # of one category, for those of one entry
_PAIRS_AT_ONCE = 500


class TrailAdmin:
    """What an operator looks up."""

    def __init__(self, records: Records, overview: Callable[[], dict[str, Any]]) -> None:
        self._records = records
        self._overview = overview

    async def overview(self) -> dict[str, Any]:
        """Return the numbers of this moment."""
        return self._overview()

    async def list_audit(self, limit: int = 50, cursor: str = "") -> dict[str, Any]:
        """Return a page of the audit trail, newest first."""
        check_limit(limit)
        try:
            page = await self._records.audit(limit=limit, cursor=cursor or None)
        except ValueError as error:
            raise ApiError(400, str(error), param="cursor") from None
        return {"audit": [audit_as_data(row) for row in page.items], "next": page.next}

    async def list_pairs(
        self, category: str = "", limit: int = 50, cursor: str = ""
    ) -> dict[str, Any]:
        """Return a page of the labelled pairs, newest first."""
        check_limit(limit)
        try:
            page = await self._records.pairs(
                limit=limit, cursor=cursor or None, category=category or None
            )
        except ValueError as error:
            raise ApiError(400, str(error), param="cursor") from None
        return {"pairs": [pair_as_data(pair) for pair in page.items], "next": page.next}

    async def pairs_about(self, entry_id: str, category: str) -> dict[str, Any]:
        """Return the labelled pairs of one entry, newest first.

        The records know no entries: the category's newest PAIRS_LOOKED_AT are looked through, and
        `complete` says whether these were all.
        """
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(PAIRS_LOOKED_AT // _PAIRS_AT_ONCE):
            page = await self._records.pairs(limit=_PAIRS_AT_ONCE, cursor=cursor, category=category)
            found += [pair_as_data(pair) for pair in page.items if pair.entry_id == entry_id]
            if (cursor := page.next) is None:
                break
        return {"pairs": found, "complete": cursor is None}


def audit_as_data(row: AuditRow) -> dict[str, Any]:
    """Return a row of the trail as plain values."""
    return {
        "at": row.at.isoformat(),
        "who": row.who,
        "action": row.action,
        "category": row.category,
        "before": None if row.before is None else json.loads(row.before),
        "after": None if row.after is None else json.loads(row.after),
    }


def pair_as_data(pair: Pair) -> dict[str, Any]:
    """Return a labelled pair as plain values."""
    return {
        "at": pair.at.isoformat(),
        "tenant": pair.tenant,
        "query": pair.query,
        "entry_query": pair.entry_query,
        "entry_id": pair.entry_id,
        "similarity": pair.similarity,
        "label": pair.label,
        "category": pair.category,
        "comment": pair.comment,
        "source": pair.source,
    }
