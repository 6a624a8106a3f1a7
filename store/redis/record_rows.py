"""Records as rows of a series, and back; what is damaged is None."""

from __future__ import annotations

from store.documents.heads import instant, microseconds
from store.documents.records import AuditRow, Pair, PolicyVersion
from store.entry import EntryId
from store.redis.series import opened, sealed


def version_row(version: PolicyVersion) -> bytes:
    """Return the row of a version without its number."""
    return sealed(
        microseconds(version.at),
        version.who,
        version.source,
        version.seed,
        version.document,
        version.note,
    )


def version_of(number: int, row: bytes) -> PolicyVersion | None:
    """Return the version of a row."""
    values = opened(row)
    if values is None:
        return None
    at_us, who, source, seed, document, note = values
    return PolicyVersion(
        number=number,
        at=instant(at_us),
        who=who,
        source=source,
        seed=seed,
        document=document,
        note=note,
    )


def audit_row(row: AuditRow) -> bytes:
    """Return the row of an audit entry."""
    return sealed(microseconds(row.at), row.who, row.action, row.category, row.before, row.after)


def audit_of(row: bytes) -> AuditRow | None:
    """Return the audit entry of a row."""
    values = opened(row)
    if values is None:
        return None
    at_us, who, action, category, before, after = values
    return AuditRow(
        at=instant(at_us), who=who, action=action, category=category, before=before, after=after
    )


def pair_row(pair: Pair) -> bytes:
    """Return the row of a pair."""
    return sealed(
        microseconds(pair.at),
        pair.tenant,
        pair.event,
        pair.query,
        pair.entry_query,
        pair.entry_id,
        pair.similarity,
        pair.label,
        pair.category,
        pair.comment,
        pair.source,
    )


def pair_of(row: bytes) -> Pair | None:
    """Return the pair of a row."""
    values = opened(row)
    if values is None:
        return None
    at_us, tenant, event, query, entry_query, entry_id, similarity, label, *rest = values
    category, comment, source = rest
    return Pair(
        at=instant(at_us),
        tenant=tenant,
        event=event,
        query=query,
        entry_query=entry_query,
        entry_id=EntryId(entry_id),
        similarity=similarity,
        label=label,
        category=category,
        comment=comment,
        source=source,
    )
