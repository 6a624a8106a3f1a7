"""The composition of what answers requests, from built parts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from proxy.admission import Admitter
from proxy.call import CallReader
from proxy.forward import Forwarder
from proxy.lookup import Searcher
from proxy.nearest import Nearest
from proxy.nearhits.prediction import Predictor
from proxy.parts import Parts
from proxy.passthrough import Passthrough
from proxy.pipeline import Pipeline
from proxy.replicas_root import build_leasing
from proxy.routes import Routes, Serve
from proxy.sharing_root import build_sharing
from proxy.tracing_root import reading, tracing_around
from proxy.upkeep import utc_now
from proxy.upstream import ModelUnknown, Upstreams

if TYPE_CHECKING:
    from proxy.tracing import Tracing

Clock = Callable[[], datetime]


def build_routes(parts: Parts, tracing: Tracing | None) -> Serve:
    """Return the cacheable endpoints and what is passed through, traced if that is wanted."""
    settings = parts.settings
    routes = Routes(
        keyring=parts.keyring,
        read=reading(tracing, build_reader(parts).read),
        pipeline=_pipeline(parts),
        passthrough=Passthrough(
            parts.upstreams,
            parts.keyring,
            tuple(settings.passthrough),
            body_limit=settings.server.body_limit,
        ),
        usage=parts.usage.usage,
        body_limit=settings.server.body_limit,
        metrics=parts.metrics,
    )
    return tracing_around(tracing, routes)


def build_reader(parts: Parts) -> CallReader:
    """Return what reads requests into calls."""
    groups = {name: tuple(patterns) for name, patterns in parts.settings.model_groups.items()}
    return CallReader(parts.in_force, groups, partial(_group_of, parts.upstreams))


def _group_of(upstreams: Upstreams, model: str) -> str:
    """Return the upstream group of a model; "" if nobody serves it, which the upstream hop says."""
    try:
        return upstreams.group_name(model)
    except ModelUnknown:
        return ""


def build_admitter(parts: Parts, clock: Clock = utc_now) -> Admitter:
    """Return what stores answers; the evaluation has a clock of its own."""
    return Admitter(
        cache=parts.cache,
        sharing=build_sharing(parts, clock),
        quarantine=parts.quarantine,
        economics=parts.economics,
        metrics=parts.metrics,
        clock=clock,
    )


def build_searcher(parts: Parts, clock: Clock = utc_now) -> Searcher:
    """Return what finds stored answers; the evaluation has a clock of its own."""
    nearest = Nearest(
        cache=parts.cache,
        quarantine=parts.quarantine,
        in_force=parts.in_force,
        point=parts.budgets.live.point,
        metrics=parts.metrics,
        clock=clock,
        max_wait=parts.settings.encoder.max_wait,
        recent=parts.recent,
    )
    return Searcher(
        cache=parts.cache,
        quarantine=parts.quarantine,
        flights=parts.flights,
        nearest=nearest,
        economics=parts.economics,
        metrics=parts.metrics,
        clock=clock,
        max_wait=parts.settings.encoder.max_wait,
        membership=parts.shelves.membership,
    )


def _pipeline(parts: Parts) -> Pipeline:
    admitter = build_admitter(parts)
    forwarder = Forwarder(
        upstreams=parts.upstreams,
        flights=parts.flights,
        admitter=admitter,
        leasing=build_leasing(parts, admitter),
        keyring=parts.keyring,
        metrics=parts.metrics,
        patience=parts.settings.flight.patience,
        audits=parts.audits,
        usage=parts.usage.usage,
    )
    return Pipeline(
        cache=parts.cache,
        quarantine=parts.quarantine,
        searcher=build_searcher(parts),
        forwarder=forwarder,
        events=parts.events,
        metrics=parts.metrics,
        clock=utc_now,
        budgets=parts.budgets.live,
        audits=parts.audits,
        near_hits=None if parts.near_hits is None else parts.near_hits.tier,
        predictor=_predictor(parts),
        membership=parts.shelves.membership,
    )


def _predictor(parts: Parts) -> Predictor | None:
    """Return what finds predicted outputs; None where no upstream takes any."""
    if not any(upstream.prediction for upstream in parts.settings.upstreams):
        return None
    return Predictor(
        cache=parts.cache,
        quarantine=parts.quarantine,
        upstreams=parts.upstreams,
        clock=utc_now,
    )
