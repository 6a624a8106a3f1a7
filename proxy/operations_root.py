"""The composition of FastAPI's share: admin, feedback, readiness, metrics, from built parts."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from fastapi import FastAPI

from proxy.admin.access import Access
from proxy.admin.entries import EntriesAdmin
from proxy.admin.near_hits import NearHitsAdmin
from proxy.admin.policies import PoliciesAdmin
from proxy.admin.sessions import Sessions
from proxy.admin.trail import TrailAdmin
from proxy.admin.usage import UsageAdmin
from proxy.feedback import FeedbackDesk
from proxy.host_metrics import HostMetrics, Place
from proxy.operations import Operations, operations_app
from proxy.overview import overview
from proxy.parts import Parts
from proxy.policy_editor import PolicyEditor
from proxy.promoting_root import Promoting, checkpoints_admin, show_checkpoints
from proxy.rate_limit import RateLimit
from proxy.readiness import Ping, Readiness
from proxy.replicas_root import event_elsewhere
from proxy.sharing_root import build_sharing
from proxy.standing import Standing, standing_of
from proxy.upkeep import encoder_ping, index_ping, refresher, utc_now
from proxy.usage.reading import UsageReader
from store.errors import StoreUnavailable
from store.journal import Complained

log = logging.getLogger("nearhit.operations")


async def build_operations(
    parts: Parts,
    editor: PolicyEditor,
    promoting: Promoting,
    place: Place | None,
    stack: AsyncExitStack,
) -> FastAPI:
    """Return the FastAPI application; what it listens with besides is closed with `stack`."""
    wanted = parts.settings.dashboard
    sessions = None
    if wanted.enabled and not parts.keyring.anonymous:
        sessions = Sessions(parts.keyring, parts.shelves.records, wanted.session)
    access = Access(parts.keyring, sessions)
    standing, pings = _standing(parts), _pings(parts)
    operations = Operations(
        keyring=parts.keyring,
        feedback=_feedback(parts),
        metrics=await _metrics(parts, standing, promoting, place, stack),
        pings=pings,
    )
    entries = EntriesAdmin(
        access=access,
        cache=parts.cache,
        sharing=build_sharing(parts, utc_now),
        quarantine=parts.quarantine,
        documents=parts.shelves.documents,
        records=parts.shelves.records,
        in_force=parts.in_force,
        clock=utc_now,
        membership=parts.shelves.membership,
        forget_usage=parts.usage.forget,
    )
    policies = PoliciesAdmin(
        access=access,
        editor=editor,
        in_force=parts.in_force,
        records=parts.shelves.records,
        standing=standing,
    )
    trail = TrailAdmin(parts.shelves.records, _numbers(parts))
    near = parts.near_hits
    near_hits = NearHitsAdmin(
        pairings=parts.settings.offload,
        learning=None if near is None else near.learning,
        replayer=None if near is None else near.replayer,
        cache=parts.cache,
        clock=time.time,
    )
    checkpoints = checkpoints_admin(promoting, access)
    reader = UsageReader(parts.usage, clock=utc_now, monotonic=time.monotonic)
    usage = UsageAdmin(reader, parts.settings.usage.currency, utc_now)
    app = operations_app(
        operations, access, entries, policies, trail, near_hits, checkpoints, usage
    )
    if wanted.enabled:
        # Here, for whoever does without pages does without what they are made with.
        from proxy.dashboard.root import add_dashboard

        readiness = Readiness(pings, time.monotonic)
        stack.push_async_callback(readiness.aclose)
        add_dashboard(
            app,
            parts,
            access=access,
            sessions=sessions,
            trail=trail,
            usage=reader,
            readiness=readiness,
            clock=utc_now,
        )
    return app


async def _metrics(
    parts: Parts,
    standing: Callable[[str], Standing],
    promoting: Promoting,
    place: Place | None,
    stack: AsyncExitStack,
) -> Callable[[], Awaitable[bytes]]:
    """Return what gives the metrics of this process, or of all workers of its host."""
    refresh = refresher(
        parts.metrics,
        parts.cache,
        parts.quarantine,
        standing,
        parts.in_force,
        lambda: 0 if parts.audits is None else parts.audits.waiting,
        lambda: [] if parts.near_hits is None else parts.near_hits.learning.router.standings(),
    )

    def own() -> bytes:
        refresh()
        show_checkpoints(parts.metrics, promoting.switch)
        return parts.metrics.render()

    async def alone() -> bytes:
        return own()

    if place is None:
        return alone
    host = HostMetrics(place, own)
    await host.start()
    stack.push_async_callback(host.aclose)
    return host.text


def _pings(parts: Parts) -> dict[str, Ping]:
    """Return what raises when a part does not work; a journal is followed only with others."""
    pings = {
        "encoder": encoder_ping(parts.in_force),
        "index": index_ping(parts.cache, parts.in_force),
        "store": parts.shelves.documents.ping,
    }
    if parts.shelves.membership.shared:
        pings["journal"] = parts.shelves.membership.ping
    return pings


def _standing(parts: Parts) -> Callable[[str], Standing]:
    def standing(category: str) -> Standing:
        facts = parts.cache.facts()
        return standing_of(
            category,
            parts.in_force.rules,
            load_factor=parts.adaptation.factor(category),
            semantic_open=not any(
                name == category and not worth.open
                for (name, _), worth in parts.economics.facts().items()
            ),
            entries=facts.entries,
            bytes=facts.bytes,
            budget=parts.budgets.standing(category),
            calibration=parts.in_force.rules.encoding.score.decided_by(category),
        )

    return standing


def _numbers(parts: Parts) -> Callable[[], dict[str, Any]]:
    began = time.monotonic()

    def numbers() -> dict[str, Any]:
        now = time.monotonic()
        return overview(
            rules=parts.in_force.rules,
            cache=parts.cache,
            quarantine=parts.quarantine,
            economics=parts.economics,
            upstreams=parts.upstreams,
            metrics=parts.metrics,
            budgets=parts.budgets,
            calibration=parts.in_force.rules.encoding.score.decided_by,
            judge=None if parts.audits is None else parts.audits.standing(),
            uptime=now - began,
            now=now,
        )

    return numbers


def _feedback(parts: Parts) -> FeedbackDesk:
    return FeedbackDesk(
        events=parts.events,
        elsewhere=partial(event_elsewhere, parts),
        cache=parts.cache,
        quarantine=parts.quarantine,
        records=parts.shelves.records,
        limit=RateLimit(parts.settings.feedback.per_minute),
        metrics=parts.metrics,
        complained=partial(_complained, parts),
        near_hits=None if parts.near_hits is None else parts.near_hits.tier,
        settled=parts.shelves.membership.settled,
        clock=utc_now,
        monotonic=time.monotonic,
    )


async def _complained(parts: Parts, category: str) -> None:
    """Tighten the category's budget here and everywhere."""
    await parts.budgets.complained(category)
    try:
        await parts.shelves.membership.tell(Complained(category))
    except StoreUnavailable:
        log.warning("other replicas do not know of a complaint about %s", category)
