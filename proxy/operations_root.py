"""The composition of FastAPI's share: admin, feedback, readiness, metrics, from built parts."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

from fastapi import FastAPI

from proxy.admin_root import build_desks
from proxy.explain import Explainer
from proxy.feedback import FeedbackDesk
from proxy.host_metrics import HostMetrics, Place
from proxy.observed import show_standing
from proxy.operations import Operations, operations_app
from proxy.parts import Parts
from proxy.policy_editor import PolicyEditor
from proxy.promoting_root import Promoting, show_checkpoints
from proxy.rate_limit import RateLimit
from proxy.readiness import Ping, Readiness
from proxy.replicas_root import given_elsewhere
from proxy.standing import Standing
from proxy.upkeep import encoder_ping, index_ping, refresher, utc_now
from store.errors import StoreUnavailable
from store.journal import Complained

log = logging.getLogger("nearhit.operations")


async def build_operations(
    parts: Parts,
    editor: PolicyEditor,
    promoting: Promoting,
    explainer: Explainer,
    place: Place | None,
    stack: AsyncExitStack,
) -> FastAPI:
    """Return the FastAPI application; what it listens with besides is closed with `stack`."""
    desks, pings = build_desks(parts, editor, promoting, explainer), _pings(parts)
    operations = Operations(
        keyring=parts.keyring,
        feedback=_feedback(parts),
        metrics=await _metrics(parts, desks.standing, promoting, place, stack),
        pings=pings,
        data_dir=(place or parts.settings).data_dir,
    )
    app = operations_app(operations, desks)
    if parts.settings.dashboard.enabled:
        # Here, for whoever does without pages does without what they are made with.
        from proxy.dashboard.root import add_dashboard

        readiness = Readiness(pings, time.monotonic)
        stack.push_async_callback(readiness.aclose)
        add_dashboard(app, parts, desks, readiness, utc_now)
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
        show_standing(parts)
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


def _feedback(parts: Parts) -> FeedbackDesk:
    return FeedbackDesk(
        events=parts.events,
        elsewhere=partial(given_elsewhere, parts),
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
