"""Numbers that are kept where they arise, brought into the metrics when somebody looks."""

from __future__ import annotations

import time

from proxy.metrics import Metrics
from proxy.parts import Parts
from proxy.upstream import Group


def show_standing(parts: Parts) -> None:
    """Set what is held, how far memory is behind, and how the upstreams are."""
    metrics, membership, facts = parts.metrics, parts.shelves.membership, parts.cache.facts()
    for category, share in parts.in_force.rules.book.shares.items():
        metrics.entry_quota.labels(category).set(share.quota.entries)
        metrics.byte_quota.labels(category).set(share.quota.bytes)
    metrics.hot_bytes.set(facts.hot_bytes)
    metrics.deletions_owed.set(facts.deletions_owed)
    metrics.writes_waiting.set(parts.shelves.documents.waiting)
    metrics.journal_staleness.set(membership.staleness)
    metrics.fresh.set(membership.fresh)
    counted = metrics.journal_reloads
    counted.inc(membership.reloads - metrics.reloads_counted)
    metrics.reloads_counted = membership.reloads
    metrics.snapshot_time.set(parts.keeper.taken_at)
    metrics.flights.set(len(parts.flights))
    now = time.monotonic()
    for group in parts.upstreams.groups:
        _show_group(metrics, group, now)


def _show_group(metrics: Metrics, group: Group, now: float) -> None:
    for member in group.members:
        metrics.upstream_in_flight.labels(member.name).set(member.in_flight)
        passed_over = bool(member.ejections) and not member.due(now)
        metrics.upstream_ejected.labels(member.name).set(passed_over)
