"""What a listing asks of SQLite: which entries, and which of their columns."""

from __future__ import annotations

import json

from store.documents.base import Filter, Summary
from store.documents.heads import instant
from store.documents.rows import Row

SUMMARY = "n, id, tenant, user, category, route, model, query, tags, created_us, size, approved"


def summary(row: Row) -> Summary | None:
    """Return the line of a SUMMARY row; None if damage has left nothing to read."""
    _, id, tenant, user, category, route, model, query, tags, created_us, size, approved = row
    try:
        return Summary(
            id=id,
            tenant=tenant,
            user=user,
            category=category,
            route=route,
            model=model,
            query=query,
            tags=tuple(json.loads(tags)),
            created_at=instant(created_us),
            size=size,
            approved=bool(approved),
        )
    except (ValueError, TypeError, OverflowError):
        return None


def where(filter: Filter) -> tuple[str, list[str | bytes | int]]:
    """Return SQL conditions, each beginning with AND, and their values."""
    clauses, values = "", list[str | bytes | int]()
    for column in ("id", "category", "tenant", "model"):
        if wanted := getattr(filter, column):
            clauses += f" AND {column} = ?"
            values.append(wanted)
    if filter.tag:  # json_each fails the whole query on what is no JSON
        clauses += (
            " AND EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(tags) THEN tags ELSE '[]'"
            " END) WHERE value = ?)"
        )
        values.append(filter.tag)
    if filter.prefix:  # as bytes: SQLite's text functions stop at a NUL
        start = filter.prefix.encode(errors="surrogatepass")
        clauses += " AND substr(CAST(query AS BLOB), 1, ?) = ?"
        values += [len(start), start]
    if filter.text:
        clauses += " AND query LIKE ? ESCAPE '\\'"
        escaped = filter.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        values.append(f"%{escaped}%")
    return clauses, values
