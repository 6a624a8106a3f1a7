"""What goes on beside the requests: expiry, readiness, and numbers that are kept elsewhere."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
from prometheus_client import Histogram

from embed.batcher import BatchFacts
from proxy.metrics import Metrics
from proxy.rules import InForce
from proxy.standing import Standing
from proxy.upstream import CallFacts
from store.cache import Cache
from store.decision.budget_values import BudgetStanding
from store.entry import Held, PartitionKey
from store.errors import StoreUnavailable
from store.policy import PolicyBook
from store.quarantine import Quarantine
from store.redis import stopping

log = logging.getLogger("nearhit.upkeep")

_PING_TIMEOUT = 5.0  # seconds
_WARM_TRIES = 10
_WARM_AGAIN = 1.0  # seconds
_SWEEP_EVERY = 30.0  # seconds between two looks for expired entries


def utc_now() -> datetime:
    """The clock of the process."""
    return datetime.now(UTC)


def encoder_ping(in_force: InForce) -> Callable[[], Awaitable[None]]:
    """Return what raises when the encoder does not encode."""

    async def ping() -> None:  # past the batcher, whose memo would answer for a dead encoder
        async with asyncio.timeout(_PING_TIMEOUT):
            await in_force.rules.encoding.encoder.encode(["ready?"])

    return ping


def index_ping(cache: Cache, in_force: InForce) -> Callable[[], Awaitable[None]]:
    """Return what raises when the index does not search."""

    async def ping() -> None:
        encoding = in_force.rules.encoding
        probe = np.zeros(encoding.dimension, np.float32)
        probe[0] = 1.0
        await cache.similar(PartitionKey("", ""), probe, checkpoint=encoding.checkpoint)

    return ping


def refresher(
    metrics: Metrics,
    cache: Cache,
    quarantine: Quarantine,
    standing: Callable[[str], Standing],
    in_force: InForce,
    audits_waiting: Callable[[], int],
    arms: Callable[[], Iterable[Mapping[str, Any]]],
) -> Callable[[], None]:
    """Return what brings the metrics up to date that are kept elsewhere."""
    counted: dict[tuple[str, str], int] = {}

    def refresh() -> None:
        facts = cache.facts()
        metrics.encode_queue.set(in_force.rules.encoding.batcher.waiting)
        metrics.quarantined.set(len(quarantine))
        metrics.audits_waiting.set(audits_waiting())
        for category in in_force.rules.book.names:
            metrics.entries.labels(category).set(facts.entries.get(category, 0))
            metrics.bytes.labels(category).set(facts.bytes.get(category, 0))
            now = standing(category)
            metrics.load_factor.labels(category).set(now.load_factor)
            metrics.threshold.labels(category).set(now.hit_threshold)
            metrics.ttl.labels(category).set(now.ttl.total_seconds())
            metrics.semantic_open.labels(category).set(now.semantic_open)
            _show_budget(metrics, category, now.budget)
            budget = in_force.rules.book[category].error_budget
            if budget is None:
                metrics.error_budget.remove_by_labels({"category": category})
            else:
                metrics.error_budget.labels(category).set(budget)
        _show_arms(metrics, arms())
        for reason, left in (("quota", facts.evicted), ("expired", facts.expired)):
            for category, total in left.items():
                more = total - counted.get((category, reason), 0)
                counted[category, reason] = total
                metrics.evictions.labels(metrics.category(category), reason).inc(more)

    return refresh


def _show_arms(metrics: Metrics, arms: Iterable[Mapping[str, Any]]) -> None:
    """Show how good small models' answers are, where there is a verdict on any."""
    for arm in arms:
        if arm["n"]:
            named = (metrics.category(arm["category"]), metrics.model(arm["small"]), arm["arm"])
            for bound, key in (("estimate", "quality"), ("lower", "lower"), ("upper", "upper")):
                metrics.near_hit_quality.labels(*named, bound).set(arm[key])


def _show_budget(metrics: Metrics, category: str, budget: BudgetStanding) -> None:
    metrics.decision_point.labels(category).set(budget.point)
    metrics.audit_sampling.labels(category).set(budget.sampling)
    for gauge, rate in (
        (metrics.false_hit_rate, budget.error),
        (metrics.false_alarm_rate, budget.false_alarms),
    ):
        gauge.labels(category, "estimate").set(math.nan if rate.estimate is None else rate.estimate)
        gauge.labels(category, "lower").set(rate.lower)
        gauge.labels(category, "upper").set(rate.upper)


def call_counter(metrics: Metrics) -> Callable[[CallFacts], None]:
    """Return what counts a finished try upstream."""

    bound: dict[tuple[str, int], Histogram] = {}  # models are configured, statuses have 3 digits

    def count(facts: CallFacts) -> None:
        key = (metrics.model(facts.model or ""), facts.status)
        histogram = bound.get(key)
        if histogram is None:
            histogram = bound[key] = metrics.upstream_duration.labels(key[0], str(key[1]))
        histogram.observe(facts.total)
        metrics.upstream_tries.labels(facts.upstream, facts.outcome).inc()
        if facts.first_byte is not None:
            metrics.upstream_first_byte.labels(facts.upstream).observe(facts.first_byte)

    return count


def batch_counter(metrics: Metrics) -> Callable[[BatchFacts], None]:
    """Return what counts a finished batch."""

    def count(facts: BatchFacts) -> None:
        metrics.batch_size.observe(facts.size)
        metrics.encode_duration.observe(facts.seconds)
        for seconds in facts.waited:
            metrics.encode_wait.observe(seconds)

    return count


def outlived(book: PolicyBook, held: Held, now: datetime) -> bool:
    """Whether no request can be served this entry any more, whatever load or failures come."""
    if held.category not in book:
        return True
    policy = book[held.category]
    longest = policy.ttl if policy.load is None else max(policy.ttl, policy.load.ttl_ceiling)
    return now - held.created_at > longest + policy.stale_if_error


async def sweep_for_ever(cache: Cache, in_force: InForce, changed: asyncio.Event) -> None:
    """Let expired entries, and those that no quota has room for, leave without traffic.

    At once when `changed` says that the policies have.
    """

    def expired(held: Held, now: datetime) -> bool:
        return outlived(in_force.rules.book, held, now)

    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), _SWEEP_EVERY)
        changed.clear()
        try:
            await cache.sweep(expired, utc_now())
            await cache.shrink()
        except Exception:
            log.exception("expired entries could not be swept; trying again later")


async def warm(cache: Cache, *, pause: float = _WARM_AGAIN) -> None:
    """Bring documents back into memory, once; they are found without it too.

    A store that is too busy just after the start is asked again, `pause` seconds later.
    """
    for number in range(1, _WARM_TRIES + 1):
        try:
            await cache.warm()
            return
        except StoreUnavailable as error:
            log.warning("documents could not be read ahead, try %d: %s", number, error)
            await asyncio.sleep(pause)
        except Exception:
            log.exception("documents could not be read ahead")
            return


async def stop(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is gone; raise what it failed with, if it did."""
    await stopping.stop(task)
    if not task.cancelled():
        task.result()
