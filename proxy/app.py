"""The composition root: the only place that constructs. Everything is built once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from embed.encoder import Encoder
from proxy import calibrated
from proxy.access_log import written_down
from proxy.checkpoint_state import read_state
from proxy.checkpoints_root import (
    OpenNamed,
    encoder_at_start,
    open_switch,
    opener,
    vectors_at_start,
)
from proxy.documents_root import open_shelves
from proxy.explaining_root import build_explainer
from proxy.host_metrics import Place
from proxy.operations import within
from proxy.operations_root import build_operations
from proxy.parts import Parts
from proxy.policy_editor import PolicyEditor
from proxy.promoting_root import library_of, open_promoting, score_for, scorer
from proxy.reencoding import made_from
from proxy.replicas_root import Faults, join_others
from proxy.routes import AtOnce, Receive, Routes, Scope, Send, Serve
from proxy.settings import Settings
from proxy.switching import Switch
from proxy.tracing_root import open_tracing
from proxy.upkeep import stop, sweep_for_ever, utc_now, warm
from store.decision.calibration_file import CALIBRATION
from store.policy import PolicyBook
from store.policy_history import PolicyHistory, Seed
from store.vectors import nothing_made

if TYPE_CHECKING:
    pass
from proxy.parts_root import Progress, build_parts, prototypes_builder
from proxy.requests_root import build_reader, build_routes, build_searcher


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
        editor = _editor(parts, history, seed, policies_file, changed)
        if not await editor.make_up():
            on_progress("the encoder does not answer: no category can be told from a text yet")
        switch = await open_switch(parts, editor, state, file, open_named, score_of, stack)
        await join_others(parts, editor, stack)
        _keep_up(parts, editor, changed, stack)
        promoting = open_promoting(parts, library, switch, open_named, make_score, stack)
        explainer = build_explainer(parts, build_reader(parts), build_searcher)
        operations = await build_operations(parts, editor, promoting, explainer, place, stack)
        down = partial(written_down, keyring=parts.keyring, wanted=settings.logging.access)
        routes = down(build_routes(parts, tracing))
        at_once = routes.at_once if isinstance(routes, Routes) else None
        yield App(routes, down(operations), editor, switch, settings.server.body_limit, at_once)


def _editor(
    parts: Parts,
    history: PolicyHistory,
    seed: Seed,
    file: Path | None,
    changed: asyncio.Event,
) -> PolicyEditor:
    return PolicyEditor(
        history=history,
        in_force=parts.in_force,
        build=prototypes_builder(parts.settings.data_dir),
        seed=seed,
        file=file,
        on_change=partial(_policies_changed, parts, changed),
        clock=utc_now,
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
        at_once: AtOnce | None = None,
    ) -> None:
        self.at_once = at_once
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
