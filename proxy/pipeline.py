"""The life of a request on a cacheable route: parse -> encode -> lookup -> forward -> admit.

The cache may fail, be full or be slow: then the request is forwarded and the fault is counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from embed.batcher import Batcher
from embed.encoder import Encoder
from embed.errors import EmbedError, Overloaded
from proxy import headers as h
from proxy.answer import Answer, replay
from proxy.call import Call
from proxy.errors import ApiError
from proxy.forward import Forwarder
from proxy.identity import partition_key
from proxy.metrics import Metrics
from proxy.wire.base import Tier
from store.cache import Cache
from store.decision.guards import veto
from store.entry import Held, Vector
from store.policy import Mode, Policy, PolicyBook, Verdict, stricter

log = logging.getLogger("nearhit.pipeline")

_NEIGHBORS = 8  # candidates of one search; the nearest that may be served is


class Outcome(StrEnum):
    """What a lookup came to; the label of nearhit_lookups_total."""

    HIT = "hit"
    MISS = "miss"
    STALE = "stale"  # there was one, but it has expired
    REQUEST = "request"  # the client would not have what there was
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class Lookup:
    """What happened, and what the later hops need of it."""

    outcome: Outcome
    held: Held | None = None
    similarity: float = 1.0
    reason: str | None = None  # of a bypass, in the words of CONTRACT.md
    vector: Vector | None = None
    storable: bool = True


def skip_reason(call: Call) -> str | None:
    """Say why this call is neither looked up nor stored; None if the cache may have it."""
    if call.policy.mode is Mode.OFF:
        return "policy"
    if call.question.tier is Tier.NONE:
        return "content"
    temperature = call.body.get("temperature", 1.0)
    temperature = 1.0 if temperature is None else temperature
    if isinstance(temperature, int | float) and temperature > call.policy.max_temperature:
        return "temperature" if call.wire.streams else None  # embeddings have no temperature
    return None


def exact_only_reason(call: Call) -> str | None:
    """Say why this call is not looked up by meaning although its category would; None if it is."""
    if call.question.tier is Tier.EXACT:
        return "content" if call.wire.streams else None
    return "turns" if call.question.turns > call.policy.max_turns else None


class Pipeline:
    """Answers calls, from the cache where that is safe."""

    def __init__(
        self,
        *,
        cache: Cache,
        batcher: Batcher,
        encoder: Encoder,
        policies: PolicyBook,
        forwarder: Forwarder,
        metrics: Metrics,
        clock: Callable[[], datetime],
        max_wait: float,
    ) -> None:
        self._cache = cache
        self._batcher = batcher
        self._encoder = encoder
        self._policies = policies
        self._forwarder = forwarder
        self._metrics = metrics
        self._clock = clock
        self._max_wait = max_wait  # seconds for a vector

    def replay_exact(self, call: Call) -> Answer | None:
        """Answer from memory if the very same request was answered before. Never waits."""
        if call.directives.no_cache:
            return None
        held = self._cache.exact(call.id)
        if held is None or skip_reason(call) is not None:
            return None
        now = self._clock()
        policy = self._policy_over(call, held)
        if policy is None or self._judge_exact(call, held, policy, now) is not Outcome.HIT:
            return None
        document = self._cache.hot(call.id)
        if document is None:
            return None
        self._cache.touch(call.id)
        self._count(call, Outcome.HIT)
        return replay(call, held, document, similarity=1.0, exact=True, now=now, ttl=policy.ttl)

    async def answer(self, call: Call) -> Answer:
        """Answer a call that memory alone could not; raise ApiError or an Upstream error."""
        reason = skip_reason(call)
        if reason is not None:
            self._refuse_if_only_cached(call)
            self._count(call, Outcome.BYPASS)
            return await self._forwarder.relay(call, h.BYPASS[reason])
        started = time.perf_counter()
        lookup = await self._lookup(call)
        if lookup.outcome is Outcome.HIT and lookup.held is not None:
            answer = await self._replay(call, lookup.held, lookup.similarity)
            if answer is not None:
                self._observe(call, Outcome.HIT, started)
                return answer
            lookup = Lookup(Outcome.MISS, vector=lookup.vector)
        self._observe(call, lookup.outcome, started)
        self._refuse_if_only_cached(call)
        return await self._forward(call, lookup)

    async def _forward(self, call: Call, lookup: Lookup) -> Answer:
        status = {
            Outcome.STALE: h.STALE,
            Outcome.REQUEST: h.REQUEST,
            Outcome.BYPASS: h.BYPASS[lookup.reason or "fault"],
        }.get(lookup.outcome, h.MISS)
        if call.directives.no_store or not lookup.storable:
            return await self._forwarder.relay(call, status)
        shared = not call.directives.no_cache
        return await self._forwarder.fetch(call, lookup.vector, status, shared=shared)

    async def _lookup(self, call: Call) -> Lookup:
        try:
            return await self._find(call)
        except Exception:
            log.exception("lookup failed; forwarding %s", call.request.request_id)
            self._metrics.faults.labels("lookup").inc()
            return Lookup(Outcome.BYPASS, reason="fault", storable=False)

    async def _find(self, call: Call) -> Lookup:
        """Look the exact key up, then the meaning."""
        outcome = Outcome.MISS
        await self._forwarder.settled(call)
        if call.directives.no_cache:
            outcome = Outcome.REQUEST
        elif (held := self._cache.exact(call.id)) is not None:
            policy = self._policy_over(call, held)
            outcome = self._judge_exact(call, held, policy, self._clock())
            if outcome is Outcome.HIT:
                return Lookup(Outcome.HIT, held)
        if call.policy.mode is not Mode.SEMANTIC:
            return Lookup(outcome)
        reason = exact_only_reason(call)
        if reason is None and call.question.tier is Tier.SEMANTIC:
            if not self._encoder.fits(call.question.text):
                reason = "size"
            else:
                return await self._find_similar(call, outcome)
        if reason is not None and outcome is Outcome.MISS:
            return Lookup(Outcome.BYPASS, reason=reason)
        return Lookup(outcome)

    async def _find_similar(self, call: Call, outcome: Outcome) -> Lookup:
        """Search by meaning; `outcome` is what the exact lookup came to."""
        try:
            async with asyncio.timeout(self._max_wait):
                vector = await self._batcher.encode(call.question.text)
        except (Overloaded, TimeoutError):
            return Lookup(Outcome.BYPASS, reason="overload", storable=False)
        except EmbedError as error:
            log.warning("encoding failed for %s: %s", call.request.request_id, error)
            self._metrics.faults.labels("encoder").inc()
            return Lookup(Outcome.BYPASS, reason="fault", storable=False)
        if call.directives.no_cache:
            return Lookup(outcome, vector=vector)
        key = partition_key(call.ground, call.question)
        now = self._clock()
        for held, similarity in await self._cache.similar(key, vector, _NEIGHBORS):
            judged = self._judge_similar(call, held, similarity, now)
            if judged is Outcome.HIT:
                return Lookup(Outcome.HIT, held, similarity, vector=vector)
            if outcome is Outcome.MISS:
                outcome = judged
        return Lookup(outcome, vector=vector)

    def _policy_over(self, call: Call, held: Held) -> Policy | None:
        if held.category == call.category:
            return call.policy
        if held.category not in self._policies:
            return None  # its category is gone, and with it the right to serve it
        return stricter(call.policy, self._policies[held.category])

    def _judge_exact(self, call: Call, held: Held, policy: Policy | None, now: datetime) -> Outcome:
        if policy is None or policy.mode is Mode.OFF:
            return Outcome.MISS
        age = now - held.created_at
        if policy.expired(age):
            return Outcome.STALE
        limit = call.directives.max_age
        return Outcome.REQUEST if limit is not None and age.total_seconds() > limit else Outcome.HIT

    def _judge_similar(self, call: Call, held: Held, similarity: float, now: datetime) -> Outcome:
        policy = self._policy_over(call, held)
        if policy is None or policy.mode is not Mode.SEMANTIC:
            return Outcome.MISS
        if held.tenant != call.caller.tenant:
            # The partition holds the tenant already: reaching this is a bug, and never a hit.
            log.error("entry %s of another tenant was found; refused", held.id)
            return Outcome.MISS
        if similarity < call.asked_threshold:
            return Outcome.MISS
        verdict = policy.judge(similarity, now - held.created_at)
        if verdict is Verdict.MISS:
            return Outcome.MISS
        guard = veto(call.question.text, held.query)
        if guard is not None:
            self._metrics.vetoes.labels(self._metrics.category(call.category), guard).inc()
            return Outcome.MISS
        return self._judge_exact(call, held, policy, now)

    async def _replay(self, call: Call, held: Held, similarity: float) -> Answer | None:
        """Return the entry's answer; None if its document is gone or cannot be read."""
        try:
            document = await self._cache.document(held.id)
        except Exception:
            log.exception("document of %s cannot be read; forwarding", held.id)
            self._metrics.faults.labels("documents").inc()
            return None
        policy = self._policy_over(call, held)
        if document is None or policy is None:
            return None
        self._cache.touch(held.id)
        exact = held.id == call.id
        return replay(
            call,
            held,
            document,
            similarity=similarity,
            exact=exact,
            now=self._clock(),
            ttl=policy.ttl,
        )

    def _refuse_if_only_cached(self, call: Call) -> None:
        if call.directives.only_if_cached:
            raise ApiError(
                504,
                "only-if-cached: no stored answer may be served to this request",
                code="not_in_cache",
            )

    def _count(self, call: Call, outcome: Outcome) -> None:
        self._metrics.looked_up(call.category, outcome)

    def _observe(self, call: Call, outcome: Outcome, started: float) -> None:
        self._count(call, outcome)
        seconds = time.perf_counter() - started
        category = self._metrics.category(call.category)
        self._metrics.lookup_duration.labels(category).observe(seconds)
