"""The composition root: the only place that constructs. Everything is built once, in order."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from embed.batcher import Batcher
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
from store.documents.sqlite import SqliteDocuments
from store.flight import Flights
from store.index import PartitionedIndex
from store.policy import PolicyBook

Progress = Callable[[str], None]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


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
        upstreams = await stack.enter_async_context(Upstreams(specs, on_call=call_counter(metrics)))
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
            max_wait=settings.encoder.max_wait,
        )
        routes = _routes(settings, policies, keyring, pipeline, upstreams)
        pings = {
            "encoder": encoder_ping(encoder),
            "index": index_ping(cache, encoder.dimension),
            "store": documents.ping,
        }
        refresh = refresher(metrics, cache, batcher, policies)
        operations = Operations(keyring, cache, documents, metrics, pings, refresh)
        for upkeep in (sweep_for_ever(cache, policies), warm(cache)):
            stack.push_async_callback(stop, asyncio.create_task(upkeep, name="nearhit-upkeep"))
        yield _dispatch(routes, operations_app(operations))


def _routes(
    settings: Settings,
    policies: PolicyBook,
    keyring: Keyring,
    pipeline: Pipeline,
    upstreams: Upstreams,
) -> Routes:
    groups = {name: tuple(patterns) for name, patterns in settings.model_groups.items()}
    return Routes(
        keyring=keyring,
        reader=CallReader(keyring, policies, groups),
        pipeline=pipeline,
        passthrough=Passthrough(upstreams, keyring, tuple(settings.passthrough)),
        body_limit=settings.server.body_limit,
    )


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
            may_set_user=key.may_set_user,
        )
        for key in settings.auth.keys
    )


def _specs(settings: Settings, environ: Mapping[str, str]) -> list[UpstreamSpec]:
    return [
        UpstreamSpec(
            name=upstream.name,
            models=tuple(upstream.models),
            fallback=tuple(upstream.fallback),
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
    policies: PolicyBook,
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
        quota=policies.capacity,
        checkpoint=encoder.checkpoint,
        hot_bytes=settings.hot_bytes,
        on_progress=restored,
    )
    stack.push_async_callback(cache.aclose)
    # What was restored lives long: the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    return cache
