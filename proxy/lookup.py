"""The two middle hops, encode and lookup: which category, which stored answer, and why not.

Deciding is pure (`skip_reason`, `exact_outcome`, `Policy.judge`, `veto`); the searcher fetches
the numbers that are decided on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from embed.batcher import Batcher
from embed.encoder import Encoder
from embed.errors import EmbedError, Overloaded
from proxy.call import Call
from proxy.metrics import Metrics
from proxy.wire.base import Tier
from store.cache import Cache
from store.decision.budgets import Budgets
from store.decision.guards import veto
from store.economics import Economics
from store.entry import Candidate, Held, Vector
from store.flight import Flights
from store.policy import DEFAULT_CATEGORY, Mode, Policy, Scope, Verdict
from store.quarantine import Quarantine

log = logging.getLogger("nearhit.lookup")

_STORING = 0.1  # seconds that a commit may take before the next one asking goes on without it
_NEIGHBORS = 8  # candidates of one search; the nearest that may be served is


class Outcome(StrEnum):
    """What a lookup came to; the label of nearhit_lookups_total."""

    HIT = "hit"
    MISS = "miss"
    STALE = "stale"  # there was one, but it has expired
    REQUEST = "request"  # the client would not have what there was
    BYPASS = "bypass"
    STALE_IF_ERROR = "stale-if-error"  # counted beside the lookup's own, when the upstream failed


@dataclass(frozen=True, slots=True)
class Lookup:
    """What happened, and what the later hops need of it."""

    outcome: Outcome
    found: Candidate | None = None  # what may be served
    expired: Candidate | None = None  # what might be served if the upstream fails
    reason: str | None = None  # of a bypass, in the words of CONTRACT.md
    vector: Vector | None = None
    storable: bool = True
    near: Candidate | None = None  # of a miss: the nearest that almost could be served
    near_risk: float | None = None  # its P(wrong), if the score alone refused it
    encode_later: bool = False  # the search was skipped: whoever stores the answer encodes it


class Unplaced(Exception):
    """The category of a text cannot be told; carries the reason of the bypass."""


def skip_reason(call: Call) -> str | None:
    """Say why this call is neither looked up nor stored; None if the cache may have it."""
    policy = call.policy
    if policy.mode is Mode.OFF or (policy.scope is Scope.USER and not call.user):
        return "policy"
    if call.question.tier is Tier.NONE:
        return "content"
    temperature = call.body.get("temperature", 1.0)
    temperature = 1.0 if temperature is None else temperature
    if isinstance(temperature, int | float) and temperature > policy.max_temperature:
        return "temperature" if call.wire.streams else None  # embeddings have no temperature
    return None


def exact_only_reason(call: Call) -> str | None:
    """Say why this call is not looked up by meaning although its category would; None if it is."""
    if call.question.tier is Tier.EXACT:
        return "content" if call.wire.streams else None
    return "turns" if call.question.turns > call.policy.max_turns else None


def exact_outcome(call: Call, held: Held, policy: Policy | None, now: datetime) -> Outcome:
    """Say what an entry under the request's own key is worth under this policy now."""
    if policy is None or policy.mode is Mode.OFF:
        return Outcome.MISS
    age = now - held.created_at
    if policy.expired(age):
        return Outcome.STALE
    limit = call.directives.max_age
    return Outcome.REQUEST if limit is not None and age.total_seconds() > limit else Outcome.HIT


def checked(classifier: str) -> str:
    """Return the mark of a category that was named, and that the classifier did not forbid."""
    return f"{classifier}+"


def told_before(call: Call, held: Held) -> str | None:
    """Return the category that a call's vector would tell, from its own stored entry; else None.

    The entry answers the very same question, so what told its category, if it is still in force,
    would tell it again; and what did not forbid it would not forbid it now.
    """
    classifier = call.rules.classifier
    if not classifier or held.category not in call.rules.book:
        return None
    if call.chosen:
        return call.chosen if held.classifier in (classifier, checked(classifier)) else None
    return held.category if held.classifier == classifier else None


def risk_of(found: Candidate) -> float:
    """Return P(wrong) of serving this: without a calibrated score, how far its cosine is from 1."""
    return max(0.0, 1.0 - found.similarity)


class Searcher:
    """Finds what may be served to a call."""

    def __init__(
        self,
        *,
        cache: Cache,
        quarantine: Quarantine,
        flights: Flights,
        batcher: Batcher,
        encoder: Encoder,
        economics: Economics,
        budgets: Budgets,
        metrics: Metrics,
        clock: Callable[[], datetime],
        max_wait: float,
    ) -> None:
        self._cache = cache
        self._quarantine = quarantine
        self._flights = flights
        self._batcher = batcher
        self._encoder = encoder
        self._economics = economics
        self._budgets = budgets
        self._metrics = metrics
        self._clock = clock
        self._max_wait = max_wait  # seconds for a vector

    async def find(self, call: Call) -> Lookup:
        """Tell the category if no rule did, then look the exact key up, then the meaning."""
        try:
            if not call.placed:
                await self._place(call)
            reason = skip_reason(call)
            if reason is not None:
                return Lookup(Outcome.BYPASS, reason=reason, storable=False)
            # Let an answer to this very call that is just being stored become visible.
            await self._flights.landed(call.id, _STORING)
            return await self._find(call)
        except Unplaced as unplaced:
            return Lookup(Outcome.BYPASS, reason=str(unplaced), storable=False)

    async def _place(self, call: Call) -> None:
        """Put the call in the category nearest to its text; raise Unplaced if that is unknown.

        A header or an open rule goes before, but not around a category of mode off. A longer
        text than the encoder takes is told by its first window, and only if that is near some
        category: what stands behind it was not read.
        """
        text, rules = call.question.text, call.rules
        if rules.prototypes is None:
            raise Unplaced("fault")
        whole = self._encoder.fits(text)
        window = text if whole else self._encoder.first_window(text)
        if window is None:
            raise Unplaced("size")
        category = rules.prototypes.classify(await self._encoded(call, window))
        if call.chosen and rules.book[category].mode is not Mode.OFF:
            call.place(call.chosen, checked(rules.classifier))
            return
        if category == DEFAULT_CATEGORY and not whole:
            raise Unplaced("size")
        call.place(category, rules.classifier)

    async def _encoded(self, call: Call, text: str) -> Vector:
        """Return the text's vector; raise Unplaced when the encoder is full, slow or failing."""
        try:
            async with asyncio.timeout(self._max_wait):
                return await self._batcher.encode(text)
        except (Overloaded, TimeoutError):
            raise Unplaced("overload") from None
        except EmbedError as error:
            log.warning("encoding failed for %s: %s", call.request.request_id, error)
            self._metrics.faults.labels("encoder").inc()
            raise Unplaced("fault") from None

    async def _find(self, call: Call) -> Lookup:
        lookup = self._find_exact(call)
        if lookup.outcome is Outcome.HIT or call.policy.mode is not Mode.SEMANTIC:
            return lookup
        reason = exact_only_reason(call)
        if reason is None and call.question.tier is Tier.SEMANTIC:
            if self._encoder.fits(call.question.text):
                return await self._find_similar(call, lookup)
            reason = "size"
        if reason is not None and lookup.outcome is Outcome.MISS:
            return replace(lookup, outcome=Outcome.BYPASS, reason=reason)
        return lookup

    def _find_exact(self, call: Call) -> Lookup:
        if call.directives.no_cache:
            return Lookup(Outcome.REQUEST)
        lookup = Lookup(Outcome.MISS)
        held = self._cache.exact(call.id)
        if held is not None and not self._quarantine.holds(held.id, call.caller.tenant):
            lookup = self._judged(call, Candidate(held, 1.0))
        if lookup.outcome is Outcome.MISS and call.policy.scope is Scope.SHARED:
            for twin in self._cache.twins(call.shared_key):
                if twin.id != call.id and self._may_have(call, twin):
                    return self._judged(call, Candidate(twin, 1.0))
        return lookup

    def _judged(self, call: Call, candidate: Candidate) -> Lookup:
        held = candidate.held
        outcome = exact_outcome(call, held, call.policy_over(held), self._clock())
        match outcome:
            case Outcome.HIT:
                return Lookup(outcome, found=candidate)
            case Outcome.STALE:
                return Lookup(outcome, expired=candidate)
        return Lookup(outcome)

    async def _find_similar(self, call: Call, lookup: Lookup) -> Lookup:
        """Search by meaning; `lookup` is what the exact key came to."""
        group = call.group
        if not self._economics.worthwhile(call.category, group):
            return replace(lookup, encode_later=True)
        started = time.perf_counter()
        vector = await self._encoded(call, call.question.text)
        if call.directives.no_cache:
            return replace(lookup, vector=vector)
        found = await self._nearest(call, vector, lookup)
        hit = found.outcome is Outcome.HIT
        seconds = time.perf_counter() - started
        self._economics.looked_up(call.category, group, hit=hit, seconds=seconds)
        return replace(found, vector=vector)

    async def _nearest(self, call: Call, vector: Vector, lookup: Lookup) -> Lookup:
        now = self._clock()
        found = await self._cache.similar(call.partition, vector, _NEIGHBORS)
        for candidate in found:
            outcome = self._judge_similar(call, candidate, now)
            if outcome is Outcome.HIT:
                return Lookup(Outcome.HIT, found=candidate)
            if lookup.outcome is Outcome.MISS and outcome is not Outcome.MISS:
                expired = candidate if outcome is Outcome.STALE else None
                lookup = Lookup(outcome, expired=expired)
        if lookup.outcome is Outcome.MISS:
            return self._with_near(call, lookup, found, now)
        return lookup

    def _with_near(self, call: Call, miss: Lookup, found: list[Candidate], now: datetime) -> Lookup:
        """Return the miss with what almost hit: what the cosine, or the score, alone refused."""
        for candidate in found:
            held, similarity = candidate
            policy = call.policy_over(held)
            if policy is None or policy.mode is not Mode.SEMANTIC:
                continue
            if similarity < policy.near_threshold or policy.expired(now - held.created_at):
                continue
            if self._may_have(call, held):
                enough = similarity >= max(policy.hit_threshold, call.asked_threshold)
                risk = risk_of(candidate) if enough else None
                return replace(miss, near=candidate, near_risk=risk)
        return miss

    def _may_have(self, call: Call, held: Held) -> bool:
        """Whether this caller may be served the entry at all."""
        if self._quarantine.holds(held.id, call.caller.tenant):
            return False
        if held.tenant == call.caller.tenant:
            return True
        if held.shared_key and call.policy.scope is Scope.SHARED:
            return held.approved
        # The partition holds the tenant already: reaching this is a bug, and never a hit.
        log.error("entry %s of another tenant was found; refused", held.id)
        return False

    def _judge_similar(self, call: Call, candidate: Candidate, now: datetime) -> Outcome:
        held, similarity = candidate
        policy = call.policy_over(held)
        if policy is None or policy.mode is not Mode.SEMANTIC or not self._may_have(call, held):
            return Outcome.MISS
        if similarity < call.asked_threshold:
            return Outcome.MISS
        if policy.judge(similarity, now - held.created_at) is Verdict.MISS:
            return Outcome.MISS
        guard = veto(call.question.text, held.query)
        if guard is not None:
            self._metrics.vetoes.labels(self._metrics.category(call.category), guard).inc()
            return Outcome.MISS
        if not self._within_budget(call, candidate):
            return Outcome.MISS
        return exact_outcome(call, held, policy, now)

    def _within_budget(self, call: Call, candidate: Candidate) -> bool:
        """Whether the category's decision point lets this much risk pass."""
        budget = call.policy.error_budget
        if budget is None:
            return True
        point = self._budgets.point(call.category, budget)
        return 0.0 < point and risk_of(candidate) <= point
