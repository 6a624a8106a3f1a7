"""The composition root: the only place that constructs. Everything is built once, in order."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from embed.batcher import Batcher
from embed.encoder import Encoder
from embed.errors import EmbedError
from proxy import prototypes
from proxy.adaptation import Adaptation
from proxy.admin.access import Access
from proxy.admin.entries import EntriesAdmin
from proxy.admin.policies import PoliciesAdmin
from proxy.admin.trail import TrailAdmin
from proxy.auth import ApiKey, Keyring, Role
from proxy.call import CallReader
from proxy.encoders import open_encoder
from proxy.events import ServingEvents
from proxy.feedback import FeedbackDesk
from proxy.forward import Forwarder
from proxy.lookup import Searcher
from proxy.metrics import Metrics
from proxy.operations import Operations, operations_app
from proxy.overview import overview
from proxy.passthrough import Passthrough
from proxy.pipeline import Pipeline
from proxy.policy_editor import PolicyEditor
from proxy.rate_limit import RateLimit
from proxy.routes import Receive, Routes, Scope, Send
from proxy.rules import InForce, Rules
from proxy.settings import Settings
from proxy.standing import Standing, standing_of
from proxy.upkeep import (
    batch_counter,
    call_counter,
    encoder_ping,
    index_ping,
    refresher,
    stop,
    sweep_for_ever,
    utc_now,
    warm,
)
from proxy.upstream import Upstreams, UpstreamSpec
from store.cache import Cache
from store.documents.base import DocumentStore
from store.documents.records import Bounds, Records
from store.documents.sqlite import SqliteDocuments
from store.economics import Economics
from store.flight import Flights
from store.index import PartitionedIndex
from store.policy import PolicyBook
from store.policy_history import PolicyHistory, Seed
from store.quarantine import Quarantine

Progress = Callable[[str], None]


@asynccontextmanager
async def open_app(
    settings: Settings,
    seed: Seed,
    environ: Mapping[str, str],
    on_progress: Progress,
    *,
    policies_file: Path | None = None,
    encoder: Encoder | None = None,
) -> AsyncIterator[App]:
    """Build the proxy, yield it as an ASGI application, and take it down in reverse order.

    `seed` is what the policies file said at start; `policies_file` is watched for changes.
    `encoder` takes the place of the configured one, and is closed like it. Raises
    StoreUnavailable, PolicyInvalid, EmbedError or OSError when a part cannot start.
    """
    async with AsyncExitStack() as stack:
        keyring = Keyring(_keys(settings, environ))
        specs = _specs(settings, environ)
        literal = [m for spec in specs for m in spec.models if not set("*?[") & set(m)]
        if encoder is None:
            encoder = await open_encoder(settings.encoder, environ, on_progress)
        stack.push_async_callback(encoder.aclose)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        bounds = Bounds(pairs=settings.feedback.max_pairs)
        documents = SqliteDocuments.open(settings.data_dir, bounds=bounds)
        stack.push_async_callback(documents.aclose)
        history = PolicyHistory(documents.records)
        in_force = InForce(Rules(book=await history.current(seed, utc_now())))
        metrics = Metrics(in_force.rules.book.names, literal)
        batcher = await stack.enter_async_context(_batcher(settings, encoder, metrics))
        build = partial(
            prototypes.build,
            encode=encoder.encode,
            checkpoint=encoder.checkpoint,
            memo_file=settings.data_dir / "prototypes.npz",
        )
        book = in_force.rules.book
        cache = await _cache(settings, book, documents, encoder, stack, on_progress)
        try:
            in_force.rules = Rules(book=book, prototypes=await build(book))
        except EmbedError as error:
            on_progress(f"categories cannot be told from texts yet: {error}")
        upstreams = await stack.enter_async_context(Upstreams(specs, on_call=call_counter(metrics)))
        parts = Parts(
            settings=settings,
            keyring=keyring,
            in_force=in_force,
            metrics=metrics,
            encoder=encoder,
            batcher=batcher,
            documents=documents,
            records=documents.records,
            cache=cache,
            quarantine=await Quarantine.open(documents.records),
            upstreams=upstreams,
            economics=Economics(),
            adaptation=Adaptation(in_force, upstreams.groups),
            events=ServingEvents(),
            flights=Flights(settings.flight.max_buffer),
        )
        stack.push_async_callback(parts.flights.aclose)
        editor = PolicyEditor(
            history=history,
            in_force=in_force,
            build=build,
            seed=seed,
            file=policies_file,
            on_change=partial(_policies_changed, cache, metrics),
            clock=utc_now,
        )
        for upkeep in (
            sweep_for_ever(cache, in_force),
            warm(cache),
            editor.watch(),
            parts.adaptation.run(),
        ):
            stack.push_async_callback(stop, asyncio.create_task(upkeep, name="nearhit-upkeep"))
        yield App(_routes(parts), _operations(parts, editor), editor)


def _policies_changed(cache: Cache, metrics: Metrics, book: PolicyBook) -> None:
    cache.set_shares(book.shares)
    metrics.set_categories(book.names)


class App:
    """The ASGI application: /v1 is plain ASGI, the rest is FastAPI's."""

    def __init__(self, routes: Routes, operations: FastAPI, editor: PolicyEditor) -> None:
        self._routes = routes
        self._operations = operations
        self._editor = editor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"].startswith("/v1/"):
            await self._routes(scope, receive, send)
        else:
            await self._operations(scope, receive, send)

    async def reload(self) -> None:
        """Look at the policies file now."""
        await self._editor.reload()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What has been built, for what is built from it."""

    settings: Settings
    keyring: Keyring
    in_force: InForce
    metrics: Metrics
    encoder: Encoder
    batcher: Batcher
    documents: DocumentStore
    records: Records
    cache: Cache
    quarantine: Quarantine
    upstreams: Upstreams
    economics: Economics
    adaptation: Adaptation
    events: ServingEvents
    flights: Flights


def _routes(parts: Parts) -> Routes:
    settings = parts.settings
    groups = {name: tuple(patterns) for name, patterns in settings.model_groups.items()}
    return Routes(
        keyring=parts.keyring,
        reader=CallReader(parts.in_force, groups, parts.upstreams.group_name),
        pipeline=_pipeline(parts),
        passthrough=Passthrough(parts.upstreams, parts.keyring, tuple(settings.passthrough)),
        body_limit=settings.server.body_limit,
    )


def _pipeline(parts: Parts) -> Pipeline:
    forwarder = Forwarder(
        upstreams=parts.upstreams,
        flights=parts.flights,
        cache=parts.cache,
        keyring=parts.keyring,
        metrics=parts.metrics,
        clock=utc_now,
        quarantine=parts.quarantine,
        economics=parts.economics,
        encode=parts.batcher.encode,
        checkpoint=parts.encoder.checkpoint,
        patience=parts.settings.flight.patience,
    )
    searcher = Searcher(
        cache=parts.cache,
        quarantine=parts.quarantine,
        flights=parts.flights,
        batcher=parts.batcher,
        encoder=parts.encoder,
        economics=parts.economics,
        metrics=parts.metrics,
        clock=utc_now,
        max_wait=parts.settings.encoder.max_wait,
    )
    return Pipeline(
        cache=parts.cache,
        quarantine=parts.quarantine,
        searcher=searcher,
        forwarder=forwarder,
        events=parts.events,
        metrics=parts.metrics,
        clock=utc_now,
    )


def _operations(parts: Parts, editor: PolicyEditor) -> FastAPI:
    access = Access(parts.keyring)
    began = time.monotonic()

    def standing(category: str) -> Standing:
        facts = parts.cache.facts()
        return standing_of(
            category,
            parts.in_force.rules,
            load_factor=parts.adaptation.factor(category),
            semantic_open=parts.economics.is_open(category),
            entries=facts.entries,
            bytes=facts.bytes,
        )

    def numbers() -> dict[str, Any]:
        now = time.monotonic()
        return overview(
            rules=parts.in_force.rules,
            cache=parts.cache,
            quarantine=parts.quarantine,
            economics=parts.economics,
            upstreams=parts.upstreams,
            metrics=parts.metrics,
            uptime=now - began,
            now=now,
        )

    entries = EntriesAdmin(
        access=access,
        cache=parts.cache,
        quarantine=parts.quarantine,
        documents=parts.documents,
        records=parts.records,
        in_force=parts.in_force,
        encode=parts.batcher.encode,
        checkpoint=parts.encoder.checkpoint,
        clock=utc_now,
    )
    policies = PoliciesAdmin(
        access=access,
        editor=editor,
        in_force=parts.in_force,
        records=parts.records,
        standing=standing,
    )
    operations = Operations(
        keyring=parts.keyring,
        feedback=_feedback(parts),
        metrics=parts.metrics,
        pings={
            "encoder": encoder_ping(parts.encoder),
            "index": index_ping(parts.cache, parts.encoder.dimension),
            "store": parts.documents.ping,
        },
        refresh=refresher(
            parts.metrics, parts.cache, parts.batcher, parts.quarantine, standing, parts.in_force
        ),
    )
    return operations_app(operations, access, entries, policies, TrailAdmin(parts.records, numbers))


def _feedback(parts: Parts) -> FeedbackDesk:
    return FeedbackDesk(
        events=parts.events,
        cache=parts.cache,
        quarantine=parts.quarantine,
        records=parts.records,
        limit=RateLimit(parts.settings.feedback.per_minute),
        metrics=parts.metrics,
        clock=utc_now,
        monotonic=time.monotonic,
    )


def _keys(settings: Settings, environ: Mapping[str, str]) -> tuple[ApiKey, ...]:
    return tuple(
        ApiKey(
            sha256=key.sha256,
            tenant=key.tenant,
            role=Role(key.role),
            categories=None if key.categories is None else frozenset(key.categories),
            upstream_key=environ.get(key.upstream_key_env) if key.upstream_key_env else None,
            may_set_user=key.may_set_user,
        )
        for key in settings.auth.keys
    )


def _specs(settings: Settings, environ: Mapping[str, str]) -> list[UpstreamSpec]:
    return [
        UpstreamSpec(
            name=upstream.name,
            models=tuple(upstream.models),
            base_url=upstream.base_url,
            provider=upstream.provider,
            api_key=environ.get(upstream.api_key_env) if upstream.api_key_env else None,
            connect_timeout=upstream.connect_timeout,
            first_byte_timeout=upstream.first_byte_timeout,
            idle_timeout=upstream.idle_timeout,
            max_retries=upstream.max_retries,
        )
        for upstream in settings.upstreams
    ]


def _batcher(settings: Settings, encoder: Encoder, metrics: Metrics) -> Batcher:
    return Batcher(
        encoder,
        max_batch=settings.encoder.max_batch,
        max_waiting=settings.encoder.max_waiting,
        on_batch=batch_counter(metrics),
    )


async def _cache(
    settings: Settings,
    book: PolicyBook,
    documents: DocumentStore,
    encoder: Encoder,
    stack: AsyncExitStack,
    on_progress: Progress,
) -> Cache:
    index = PartitionedIndex(encoder.dimension)
    stack.push_async_callback(index.aclose)
    said = time.monotonic()

    def restored(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > 1.0:
            said = time.monotonic()
            on_progress(f"restoring entries: {done} of {total}")

    cache = await Cache.open(
        documents,
        index=index,
        shares=book.shares,
        checkpoint=encoder.checkpoint,
        hot_bytes=settings.hot_bytes,
        on_progress=restored,
    )
    stack.push_async_callback(cache.aclose)
    # What was restored lives long: the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    return cache
