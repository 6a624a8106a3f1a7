"""The composition root: the only place that constructs. Everything is built once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from embed.encoder import Encoder
from proxy import calibrated, prototypes
from proxy.access_log import written_down
from proxy.adaptation import Adaptation
from proxy.admission import Admitter
from proxy.audits_root import open_audits, open_budgets, side_calls_for
from proxy.auth import Keyring
from proxy.cache_root import open_cache
from proxy.calibrated import LiveScore, live_score
from proxy.call import CallReader
from proxy.checkpoint_state import read_state
from proxy.checkpoints_root import (
    OpenNamed,
    as_it_serves,
    encoder_at_start,
    open_switch,
    opener,
    vectors_at_start,
)
from proxy.configured import api_keys, upstream_specs
from proxy.documents_root import Shelves, open_shelves
from proxy.encoding import Encoding
from proxy.events import ServingEvents
from proxy.example_memo import memo_file
from proxy.explaining_root import build_explainer
from proxy.forward import Forwarder
from proxy.host_metrics import Place
from proxy.lookup import Searcher
from proxy.metrics import Metrics
from proxy.nearest import Nearest
from proxy.nearhits.prediction import Predictor
from proxy.nearhits.root import open_near_hits
from proxy.operations import within
from proxy.operations_root import build_operations
from proxy.parts import Parts
from proxy.passthrough import Passthrough
from proxy.pipeline import Pipeline
from proxy.policy_editor import Build, PolicyEditor
from proxy.promoting_root import library_of, open_promoting, score_for, scorer
from proxy.recent_lookups import recent_lookups
from proxy.reencoding import made_from
from proxy.replicas_root import Faults, build_leasing, join_others
from proxy.routes import Receive, Routes, Scope, Send, Serve
from proxy.rules import InForce, Rules
from proxy.settings import Settings
from proxy.sharing_root import build_sharing
from proxy.switching import Switch
from proxy.tracing_root import open_tracing, reading, tracing_around
from proxy.upkeep import call_counter, stop, sweep_for_ever, utc_now, warm
from proxy.upstream import ModelUnknown, Upstreams
from proxy.usage.root import open_usage
from store.decision.calibration_file import CALIBRATION
from store.economics import Economics
from store.flight import Flights
from store.policy import PolicyBook
from store.policy_history import PolicyHistory, Seed
from store.quarantine import Quarantine
from store.vectors import Maker, nothing_made

if TYPE_CHECKING:
    from proxy.tracing import Tracing

Progress = Callable[[str], None]
Clock = Callable[[], datetime]


@asynccontextmanager
async def open_app(
    settings: Settings,
    seed: Seed,
    environ: Mapping[str, str],
    on_progress: Progress,
    *,
    policies_file: Path | None = None,
    encoder: Encoder | None = None,
    promoted: OpenNamed | None = None,
    place: Place | None = None,
) -> AsyncIterator[App]:
    """Build the proxy, yield it as an ASGI application, and take it down in reverse order.

    `seed` is what the policies file said at start; `policies_file` is watched for changes.
    `encoder` takes the place of the configured one, and is closed like it, `promoted` the place of
    what opens promoted checkpoints by their ids; `place` is a worker's.
    Raises StoreUnavailable, PolicyInvalid, EmbedError, TracingUnavailable or OSError when a part
    cannot start.
    """
    async with AsyncExitStack() as stack:
        tracing = open_tracing(settings.tracing, environ, stack)
        faults = Faults()
        shelves = await open_shelves(settings, environ, stack, faults)
        state = await read_state(shelves.records)
        open_named = opener(settings, environ, on_progress, encoder, promoted)
        shared = shelves.membership.shared
        encoder = await encoder_at_start(state, open_named, on_progress, shared=shared)
        stack.push_async_callback(encoder.aclose)
        file = await vectors_at_start(state, settings.data_dir, encoder)
        library = library_of(settings, shelves.records)
        make_score = score_for((place or settings).data_dir / CALIBRATION)
        score_of = scorer(library, make_score)
        history = PolicyHistory(shelves.records)
        parts = await build_parts(
            settings,
            environ,
            await history.current(seed, utc_now()),
            shelves,
            encoder,
            stack,
            on_progress,
            score=await score_of(encoder.checkpoint),
            made=nothing_made if file is None else made_from(file),
        )
        faults.count = lambda: parts.metrics.faults.labels("redis").inc()
        changed = asyncio.Event()
        editor = PolicyEditor(
            history=history,
            in_force=parts.in_force,
            build=prototypes_builder(settings.data_dir),
            seed=seed,
            file=policies_file,
            on_change=partial(_policies_changed, parts, changed),
            clock=utc_now,
        )
        if not await editor.make_up():
            on_progress("the encoder does not answer: no category can be told from a text yet")
        switch = await open_switch(parts, editor, state, file, open_named, score_of, stack)
        await join_others(parts, editor, stack)
        _keep_up(parts, editor, changed, stack)
        promoting = open_promoting(parts, library, switch, open_named, make_score, stack)
        explainer = build_explainer(parts, build_reader(parts), build_searcher)
        operations = await build_operations(parts, editor, promoting, explainer, place, stack)
        down = partial(written_down, keyring=parts.keyring, wanted=settings.logging.access)
        yield App(
            down(_routes(parts, tracing)),
            down(operations),
            editor,
            switch,
            settings.server.body_limit,
        )


def _keep_up(
    parts: Parts, editor: PolicyEditor, changed: asyncio.Event, stack: AsyncExitStack
) -> None:
    """Start what runs beside the requests, to be stopped with `stack`."""
    for upkeep in (
        sweep_for_ever(parts.cache, parts.in_force, changed),
        warm(parts.cache),
        editor.watch(),
        editor.follow(),
        parts.keeper.keep(parts.settings.snapshots.every),
        parts.adaptation.run(),
        parts.usage.keep(),
        calibrated.watch(lambda: parts.in_force.rules.encoding.score, parts.budgets.live),
    ):
        stack.push_async_callback(stop, asyncio.create_task(upkeep, name="nearhit-upkeep"))


async def build_parts(
    settings: Settings,
    environ: Mapping[str, str],
    book: PolicyBook,
    shelves: Shelves,
    encoder: Encoder,
    stack: AsyncExitStack,
    on_progress: Progress,
    score: LiveScore | None = None,
    made: Maker = nothing_made,
) -> Parts:
    """Build everything that requests pass through, in order; `score` None: as it is shipped.

    The book's examples are not encoded yet. `made` gives vectors of entries that were stored
    under another checkpoint.
    """
    specs = upstream_specs(settings, environ)
    literal = [m for spec in specs for m in spec.models if not set("*?[") & set(m)]
    metrics = Metrics(book.names, literal)
    encoding = as_it_serves(settings, encoder, metrics, score or live_score(encoder.checkpoint))
    await stack.enter_async_context(encoding.batcher)
    _warn_of_no_score(encoding, on_progress)
    in_force = InForce(Rules(book=book, encoding=encoding))
    cache, keeper = await open_cache(settings, in_force, shelves, made, stack, on_progress)
    economics = Economics(gated=settings.lookup_gate)
    usage = open_usage(settings, shelves, metrics, economics, stack)  # closed after the flights
    upstreams = await stack.enter_async_context(Upstreams(specs, on_call=call_counter(metrics)))
    flights = Flights(settings.flight.max_buffer)
    stack.push_async_callback(flights.aclose)
    keyring = Keyring(api_keys(settings, environ))
    quarantine = await Quarantine.open(shelves.records)
    budgets = await open_budgets(settings, shelves.records, in_force)
    side_calls = side_calls_for(settings, upstreams, keyring, metrics)
    audits = open_audits(
        settings,
        stack=stack,
        side_calls=side_calls,
        budgets=budgets,
        cache=cache,
        records=shelves.records,
        quarantine=quarantine,
        metrics=metrics,
    )
    parts = Parts(
        settings=settings,
        keyring=keyring,
        in_force=in_force,
        metrics=metrics,
        shelves=shelves,
        cache=cache,
        keeper=keeper,
        quarantine=quarantine,
        upstreams=upstreams,
        economics=economics,
        budgets=budgets,
        audits=audits,
        side_calls=side_calls,
        near_hits=None,
        adaptation=Adaptation(in_force, upstreams.groups),
        events=ServingEvents(),
        flights=flights,
        usage=usage,
        recent=recent_lookups(settings.dashboard, shelves.documents),
    )
    return replace(parts, near_hits=await open_near_hits(parts, stack))


def _warn_of_no_score(encoding: Encoding, on_progress: Progress) -> None:
    if encoding.score.now is None:
        on_progress(
            f"no score is fitted to the encoder {encoding.checkpoint}: categories with an"
            " error_budget answer the same request again and nothing by meaning"
        )


def prototypes_builder(data_dir: Path) -> Build:
    """Return what encodes a policy book's examples; they are remembered in files there."""

    async def build(book: PolicyBook, encoding: Encoding) -> prototypes.Prototypes:
        return await prototypes.build(
            book,
            encode=encoding.encoder.encode,
            checkpoint=encoding.checkpoint,
            memo_file=memo_file(data_dir, encoding.checkpoint),
            first_window=encoding.encoder.first_window,
        )

    return build


def _policies_changed(parts: Parts, changed: asyncio.Event, book: PolicyBook) -> None:
    parts.cache.set_shares(book.shares)
    parts.metrics.set_categories(book.names)
    parts.budgets.keep(book.names)
    parts.recent.keep(book.names)
    if parts.near_hits is not None:
        parts.near_hits.learning.router.keep(book.policies)
    changed.set()


class App:
    """The ASGI application: /v1 is plain ASGI, the rest is FastAPI's."""

    def __init__(
        self,
        routes: Serve,
        operations: Serve,
        editor: PolicyEditor,
        switch: Switch,
        body_limit: int,
    ) -> None:
        self.switch = switch
        self._routes = routes
        self._operations = operations
        self._editor = editor
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"].startswith("/v1/"):
            await self._routes(scope, receive, send)
        else:
            await self._operations(scope, within(receive, self._body_limit), send)

    async def reload(self) -> None:
        """Look at the policies file now."""
        await self._editor.reload()


def _routes(parts: Parts, tracing: Tracing | None) -> Serve:
    settings = parts.settings
    routes = Routes(
        keyring=parts.keyring,
        read=reading(tracing, build_reader(parts).read),
        pipeline=_pipeline(parts),
        passthrough=Passthrough(parts.upstreams, parts.keyring, tuple(settings.passthrough)),
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
