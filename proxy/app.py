"""The composition root: the only place that constructs. Everything is built once, in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime

from fastapi import FastAPI

from embed.batcher import Batcher, BatchFacts
from embed.encoder import Encoder
from proxy.auth import ApiKey, Keyring, Role
from proxy.call import CallReader
from proxy.encoders import open_encoder
from proxy.forward import Forwarder
from proxy.metrics import Metrics
from proxy.operations import Operations, operations_app
from proxy.passthrough import Passthrough
from proxy.pipeline import Pipeline
from proxy.routes import Receive, Routes, Scope, Send
from proxy.settings import Settings
from proxy.upstream import CallFacts, Upstreams, UpstreamSpec
from store.cache import Cache
from store.documents.base import DocumentStore
from store.documents.sqlite import SqliteDocuments
from store.entry import Held
from store.eviction import Quota
from store.flight import Flights
from store.index import PartitionedIndex
from store.policy import PolicyBook

log = logging.getLogger("nearhit.app")

Progress = Callable[[str], None]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
_PING_TIMEOUT = 5.0  # seconds
_SWEEP_EVERY = 30.0  # seconds between two looks for expired entries


def utc_now() -> datetime:
    """The clock of the process."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_app(
    settings: Settings,
    policies: PolicyBook,
    environ: Mapping[str, str],
    on_progress: Progress,
    *,
    encoder: Encoder | None = None,
) -> AsyncIterator[Asgi]:
    """Build the proxy, yield it as an ASGI application, and take it down in reverse order.

    `encoder` takes the place of the configured one, and is closed like it. Raises
    StoreUnavailable, EmbedError or OSError when a part cannot start.
    """
    async with AsyncExitStack() as stack:
        keyring = Keyring(_keys(settings, environ))
        specs = _specs(settings, environ)
        literal = [m for spec in specs for m in spec.models if not set("*?[") & set(m)]
        metrics = Metrics(policies.names, literal)
        if encoder is None:
            encoder = await open_encoder(settings.encoder, environ, on_progress)
        stack.push_async_callback(encoder.aclose)
        batcher = await stack.enter_async_context(_batcher(settings, encoder, metrics))
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        documents = SqliteDocuments.open(settings.data_dir)
        stack.push_async_callback(documents.aclose)
        cache = await _cache(settings, policies, documents, encoder, stack, on_progress)
        upstreams = await stack.enter_async_context(
            Upstreams(specs, on_call=lambda facts: _count_call(metrics, facts))
        )
        flights = Flights(settings.flight.max_buffer)
        stack.push_async_callback(flights.aclose)
        forwarder = Forwarder(
            upstreams=upstreams,
            flights=flights,
            cache=cache,
            keyring=keyring,
            metrics=metrics,
            clock=utc_now,
            checkpoint=encoder.checkpoint,
            patience=settings.flight.patience,
        )
        pipeline = Pipeline(
            cache=cache,
            batcher=batcher,
            encoder=encoder,
            policies=policies,
            forwarder=forwarder,
            metrics=metrics,
            clock=utc_now,
        )
        groups = {name: tuple(patterns) for name, patterns in settings.model_groups.items()}
        routes = Routes(
            keyring=keyring,
            reader=CallReader(keyring, policies, groups),
            pipeline=pipeline,
            passthrough=Passthrough(upstreams, keyring, tuple(settings.passthrough)),
            body_limit=settings.server.body_limit,
        )
        operations = Operations(
            keyring=keyring,
            cache=cache,
            documents=documents,
            metrics=metrics,
            pings={"encoder": _encoder_ping(encoder), "documents": documents.ping},
            refresh=_refresher(metrics, cache, batcher, policies),
        )
        sweeping = asyncio.create_task(_sweep(cache, policies), name="nearhit-sweep")
        stack.push_async_callback(_stop, sweeping)
        yield _dispatch(routes, operations_app(operations))


def _dispatch(routes: Routes, operations: FastAPI) -> Asgi:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/v1/"):
            await routes(scope, receive, send)
        else:
            await operations(scope, receive, send)

    return app


def _keys(settings: Settings, environ: Mapping[str, str]) -> tuple[ApiKey, ...]:
    return tuple(
        ApiKey(
            sha256=key.sha256,
            tenant=key.tenant,
            role=Role(key.role),
            categories=None if key.categories is None else frozenset(key.categories),
            upstream_key=environ.get(key.upstream_key_env) if key.upstream_key_env else None,
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
    def count(facts: BatchFacts) -> None:
        metrics.batch_size.observe(facts.size)
        metrics.encode_duration.observe(facts.seconds)
        for seconds in facts.waited:
            metrics.encode_wait.observe(seconds)

    return Batcher(
        encoder,
        max_batch=settings.encoder.max_batch,
        max_waiting=settings.encoder.max_waiting,
        on_batch=count,
    )


async def _cache(
    settings: Settings,
    policies: PolicyBook,
    documents: DocumentStore,
    encoder: Encoder,
    stack: AsyncExitStack,
    on_progress: Progress,
) -> Cache:
    index = PartitionedIndex(encoder.dimension)
    stack.push_async_callback(index.aclose)
    started = time.monotonic()
    said = started

    def restored(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > 1.0:
            said = time.monotonic()
            on_progress(f"restoring entries: {done} of {total}")

    capacity = policies.capacity
    cache = await Cache.open(
        documents,
        index=index,
        quota=Quota(entries=capacity.entries, bytes=capacity.bytes),
        checkpoint=encoder.checkpoint,
        hot_bytes=settings.hot_bytes,
        on_progress=restored,
    )
    stack.push_async_callback(cache.aclose)
    return cache


def _encoder_ping(encoder: Encoder) -> Callable[[], Awaitable[None]]:
    async def ping() -> None:  # past the batcher, whose memo would answer for a dead encoder
        async with asyncio.timeout(_PING_TIMEOUT):
            await encoder.encode(["ready?"])

    return ping


def _refresher(
    metrics: Metrics, cache: Cache, batcher: Batcher, policies: PolicyBook
) -> Callable[[], None]:
    """Return what brings the metrics up to date that are kept elsewhere."""
    counted: dict[tuple[str, str], int] = {}

    def refresh() -> None:
        facts = cache.facts()
        metrics.bytes.set(facts.bytes)
        metrics.encode_queue.set(batcher.waiting)
        for category in policies.names:
            metrics.entries.labels(category).set(facts.entries.get(category, 0))
        for reason, left in (("quota", facts.evicted), ("expired", facts.expired)):
            for category, total in left.items():
                more = total - counted.get((category, reason), 0)
                counted[category, reason] = total
                metrics.evictions.labels(metrics.category(category), reason).inc(more)

    return refresh


def _count_call(metrics: Metrics, facts: CallFacts) -> None:
    model = metrics.model(facts.model or "")
    metrics.upstream_duration.labels(model, str(facts.status)).observe(facts.total)


async def _sweep(cache: Cache, policies: PolicyBook) -> None:
    """Let expired entries leave without waiting for traffic."""

    def expired(held: Held, now: datetime) -> bool:
        known = held.category in policies
        return known and policies[held.category].expired(now - held.created_at)

    while True:
        await asyncio.sleep(_SWEEP_EVERY)
        try:
            await cache.sweep(expired, utc_now())
        except Exception:
            log.exception("expired entries could not be swept; trying again later")


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
