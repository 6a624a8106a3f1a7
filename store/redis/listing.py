"""Which entries a listing shows, judged by their stored heads."""

from __future__ import annotations

import json
from string import ascii_lowercase, ascii_uppercase

from store.documents.base import Filter, Summary
from store.documents.heads import instant
from store.entry import EntryId
from store.redis.codec import head_from

LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def summary(head: bytes) -> Summary | None:
    """Return the line of a stored head; None if damage has left nothing to read."""
    try:
        found = head_from(head)
        return Summary(
            id=EntryId(found.id),
            tenant=found.tenant,
            user=found.user,
            category=found.category,
            route=found.route,
            model=found.model,
            query=found.query,
            tags=tuple(json.loads(found.tags)),
            created_at=instant(found.created_us),
            size=found.size,
            approved=bool(found.approved),
        )
    except (ValueError, TypeError, OverflowError):
        return None


def passes(filter: Filter, line: Summary) -> bool:
    """Whether the entry of this line passes."""
    return (
        filter.id in ("", line.id)
        and filter.category in ("", line.category)
        and filter.tenant in ("", line.tenant)
        and filter.model in ("", line.model)
        and (not filter.tag or filter.tag in line.tags)
        and line.query.startswith(filter.prefix)
        and filter.text.translate(LOWER) in line.query.translate(LOWER)
    )
