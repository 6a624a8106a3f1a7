"""What goes on beside the requests: expiry, readiness, and numbers that are kept elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

import numpy as np
from prometheus_client import Histogram

from embed.batcher import Batcher, BatchFacts
from embed.encoder import Encoder
from proxy.metrics import Metrics
from proxy.upstream import CallFacts
from store.cache import Cache
from store.entry import Held, PartitionKey
from store.policy import PolicyBook

log = logging.getLogger("nearhit.upkeep")

_PING_TIMEOUT = 5.0  # seconds
_SWEEP_EVERY = 30.0  # seconds between two looks for expired entries


def utc_now() -> datetime:
    """The clock of the process."""
    return datetime.now(UTC)


def encoder_ping(encoder: Encoder) -> Callable[[], Awaitable[None]]:
    """Return what raises when the encoder does not encode."""

    async def ping() -> None:  # past the batcher, whose memo would answer for a dead encoder
        async with asyncio.timeout(_PING_TIMEOUT):
            await encoder.encode(["ready?"])

    return ping


def index_ping(cache: Cache, dimension: int) -> Callable[[], Awaitable[None]]:
    """Return what raises when the index does not search."""
    probe = np.zeros(dimension, np.float32)
    probe[0] = 1.0

    async def ping() -> None:
        await cache.similar(PartitionKey("", ""), probe)

    return ping


def refresher(
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


def call_counter(metrics: Metrics) -> Callable[[CallFacts], None]:
    """Return what counts a finished upstream call."""

    bound: dict[tuple[str, int], Histogram] = {}  # models are configured, statuses have 3 digits

    def count(facts: CallFacts) -> None:
        key = (metrics.model(facts.model or ""), facts.status)
        histogram = bound.get(key)
        if histogram is None:
            histogram = bound[key] = metrics.upstream_duration.labels(key[0], str(key[1]))
        histogram.observe(facts.total)

    return count


def batch_counter(metrics: Metrics) -> Callable[[BatchFacts], None]:
    """Return what counts a finished batch."""

    def count(facts: BatchFacts) -> None:
        metrics.batch_size.observe(facts.size)
        metrics.encode_duration.observe(facts.seconds)
        for seconds in facts.waited:
            metrics.encode_wait.observe(seconds)

    return count


async def sweep_for_ever(cache: Cache, policies: PolicyBook) -> None:
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


async def warm(cache: Cache) -> None:
    """Bring documents back into memory, once; they are found without it too."""
    try:
        await cache.warm()
    except Exception:
        log.exception("documents could not be read ahead")


async def stop(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is gone."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
