"""The life of a request on a cacheable route: parse -> encode -> lookup -> forward -> admit.

The cache may fail, be full or be slow: then the request is forwarded and the fault is counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from proxy import headers as h
from proxy.answer import Answer, Streamed, replay
from proxy.audits import Audits
from proxy.call import Call
from proxy.errors import ApiError
from proxy.events import ServingEvent, ServingEvents
from proxy.forward import Forwarder
from proxy.hops import hop
from proxy.logs import asking
from proxy.lookup import Searcher, told_before
from proxy.metrics import Metrics
from proxy.nearhits.prediction import Predictor
from proxy.nearhits.tier import NearHits
from proxy.outcome import Lookup, Outcome, exact_outcome, skip_reason
from proxy.upstream_errors import UpstreamError
from proxy.wire.base import InvalidRequest
from store.cache import Cache
from store.decision.budgets import Budgets
from store.entry import Candidate, EntryId, Held
from store.errors import StoreUnavailable
from store.flight import LeaderGone
from store.hot import Document
from store.leases import AnswerLanded
from store.membership import Membership
from store.quarantine import Quarantine

log = logging.getLogger("nearhit.pipeline")

_UPSTREAM_FAILED = (500, 502, 503, 504)  # statuses that stale_if_error stands in for (RFC 5861)
_STATUS = {Outcome.STALE: h.STALE, Outcome.REQUEST: h.REQUEST}


class Pipeline:
    """Answers calls, from the cache where that is safe."""

    def __init__(
        self,
        *,
        cache: Cache,
        quarantine: Quarantine,
        searcher: Searcher,
        forwarder: Forwarder,
        events: ServingEvents,
        metrics: Metrics,
        clock: Callable[[], datetime],
        budgets: Budgets,
        membership: Membership,
        audits: Audits | None = None,
        near_hits: NearHits | None = None,
        predictor: Predictor | None = None,
    ) -> None:
        self._cache = cache
        self._quarantine = quarantine
        self._searcher = searcher
        self._forwarder = forwarder
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._budgets = budgets
        self._audits = audits
        self._near_hits = near_hits
        self._predictor = predictor
        self._membership = membership

    def replay_exact(self, call: Call) -> Answer | None:
        """Answer from memory if the very same request was answered before. Never waits."""
        if call.directives.no_cache or not self._membership.fresh:
            return None
        held = self._cache.exact(call.id)
        if not call.placed:
            told = None if held is None else told_before(call, held)
            if told is None:
                return None
            call.place(*told)
            held = self._cache.exact(call.id)  # in scope user it goes by another key
        if held is None or skip_reason(call) is not None:
            return None
        now = self._clock()
        policy = call.policy_over(held)
        if policy is None or exact_outcome(call, held, policy, now) is not Outcome.HIT:
            return None
        if self._quarantine.holds(held.id, call.caller.tenant):
            return None
        document = self._cache.hot(call.id)
        if document is None:
            return None
        answer = self._served(call, Candidate(held, 1.0), document, now, ttl=policy.ttl)
        if answer is None:
            return None
        self._metrics.looked_up(call.category, Outcome.HIT)
        if self._audits is not None:
            self._audits.consider_control(call, held)
        return answer

    async def answer(self, call: Call) -> Answer:
        """Answer a call that memory alone could not; raise ApiError or an Upstream error."""
        started = time.perf_counter()
        asking.set(call.request.request_id)
        lookup = await self._lookup(call)
        if lookup.outcome is Outcome.HIT and lookup.found is not None:
            answer = await self._replay(call, lookup.found)
            if answer is not None:
                self._observe(call, Outcome.HIT, started)
                self._follow_up(call, lookup.found)
                return answer
            lookup = Lookup(Outcome.MISS, vector=lookup.vector)
        self._observe(call, lookup.outcome, started)
        if lookup.near_risk is not None:
            self._withheld(call, lookup.near_risk)
        if call.directives.only_if_cached:
            raise ApiError(
                504,
                "only-if-cached: no stored answer may be served to this request",
                code="not_in_cache",
            )
        return await self._forward(call, lookup)

    async def _lookup(self, call: Call) -> Lookup:
        try:
            with hop("lookup") as span:
                lookup = await self._searcher.find(call)
                span.note("nearhit.verdict", lookup.outcome)
                span.note("nearhit.category", call.category)
                if lookup.found is not None:
                    span.note("nearhit.similarity", float(lookup.found.similarity))
            return lookup
        except (ApiError, InvalidRequest):
            raise
        except Exception:
            log.exception("lookup failed; forwarding %s", call.request.request_id)
            self._metrics.faults.labels("lookup").inc()
            return Lookup(Outcome.BYPASS, reason="fault", storable=False)

    async def _forward(self, call: Call, lookup: Lookup) -> Answer:
        """Have a small model answer a near-hit, or ask the upstream.

        Should the upstream fail, an expired answer may stand in.
        """
        if self._near_hits is not None and lookup.around:
            with hop("near-hit") as span:
                near = await self._near_hits.answer(call, lookup)
                span.note("nearhit.answered", isinstance(near, Answer))
            if isinstance(near, Answer):
                return near
            lookup = near
        try:
            answer = await self._ask(call, lookup)
        except (UpstreamError, LeaderGone):
            stale = await self._stand_in(call, lookup)
            if stale is None:
                raise
            return stale
        if answer.status in _UPSTREAM_FAILED and lookup.expired is not None:
            stale = await self._stand_in(call, lookup)
            if stale is not None:
                if isinstance(answer.body, Streamed):
                    async with answer.body:
                        pass  # let go of the upstream's connection
                return stale
        return answer

    async def _ask(self, call: Call, lookup: Lookup) -> Answer:
        if lookup.outcome is Outcome.BYPASS:
            status = h.BYPASS[lookup.reason or "fault"]
        else:
            status = _STATUS.get(lookup.outcome, h.MISS)
        if call.directives.no_store or not lookup.storable:
            return await self._forwarder.relay(call, status)
        text, key = call.question.text, call.shared_key
        self._note(call, call.id, text, 1.0, self._clock(), hit=False, shared_key=key)
        shared = not call.directives.no_cache
        if self._predictor is not None and lookup.around:
            lookup = replace(lookup, predicted=await self._predictor.predicted(call, lookup))
        try:
            return await self._forwarder.fetch(call, lookup, status, shared=shared)
        except AnswerLanded:
            answer = await self._look_again(call)
        if answer is not None:
            return answer
        return await self._forwarder.fetch(call, lookup, status, shared=shared, mind_landed=False)

    async def _look_again(self, call: Call) -> Answer | None:
        """Return what another replica has stored under this very key since it was looked up."""
        lookup = self._searcher.find_exact(call)
        if lookup.outcome is not Outcome.HIT or lookup.found is None:
            return None
        answer = await self._replay(call, lookup.found)
        if answer is not None:
            self._metrics.looked_up(call.category, Outcome.HIT)
            self._follow_up(call, lookup.found)
        return answer

    async def _replay(self, call: Call, found: Candidate) -> Answer | None:
        """Return the entry's answer; None if its document is gone or cannot be read or replayed."""
        held = found.held
        document = await self._document(call, held)
        policy = call.policy_over(held)
        if document is None or policy is None:
            return None
        return self._served(call, found, document, self._clock(), ttl=policy.ttl)

    async def _stand_in(self, call: Call, lookup: Lookup) -> Answer | None:
        """Return what has expired, marked so, if its policy lets it stand in for the upstream."""
        found, now = lookup.expired, self._clock()
        if found is None or call.directives.max_age is not None:
            return None
        policy = call.policy_over(found.held)
        if policy is None or not policy.helps_in_need(now - found.held.created_at):
            return None
        document = await self._document(call, found.held)
        if document is None:
            return None
        answer = self._served(call, found, document, now, ttl=policy.ttl, stale=True)
        if answer is not None:
            self._metrics.looked_up(call.category, Outcome.STALE_IF_ERROR)
        return answer

    def _follow_up(self, call: Call, found: Candidate) -> None:
        """Note a hit for the error budget, and perhaps have it audited."""
        held = found.held
        if held.id == call.id or (held.shared_key != "" and held.shared_key == call.shared_key):
            if self._audits is not None:
                self._audits.consider_control(call, held)
            return
        policy = call.policy
        self._budgets.served(call.category, policy.error_budget, audited=policy.audit)
        if self._audits is not None:
            self._audits.consider(call, found, found.doubt)

    def _withheld(self, call: Call, risk: float) -> None:
        policy = call.policy
        self._budgets.withheld(call.category, policy.error_budget, risk, audited=policy.audit)

    async def _document(self, call: Call, held: Held) -> Document | None:
        """Return the entry's document, unless it was removed or stopped in the meantime."""
        try:
            document = await self._cache.document(held.id)
        except StoreUnavailable as error:
            log.warning("document of %s cannot be read; forwarding: %s", held.id, error)
            self._metrics.faults.labels("documents").inc()
            return None
        except Exception:
            log.exception("document of %s cannot be read; forwarding", held.id)
            self._metrics.faults.labels("documents").inc()
            return None
        if self._quarantine.keeps(held, call.caller.tenant) or not self._membership.fresh:
            return None
        return document

    def _served(
        self,
        call: Call,
        found: Candidate,
        document: Document,
        now: datetime,
        *,
        ttl: timedelta,
        stale: bool = False,
    ) -> Answer | None:
        """Return the entry's answer as a use of it; None if it cannot be told in this form."""
        held, similarity, _ = found
        try:
            answer = replay(
                call, held, document, similarity=similarity, now=now, ttl=ttl, stale=stale
            )
        except Exception:  # what an earlier version stored, or was imported, may be of any shape
            log.exception("the answer of %s cannot be replayed; forwarding", held.id)
            self._metrics.faults.labels("documents").inc()
            return None
        self._cache.touch(held.id)
        same_past = held.earlier == call.question.earlier
        self._note(
            call,
            held.id,
            held.query,
            similarity,
            now,
            hit=True,
            shared_key=held.shared_key,
            same_past=same_past,
        )
        return answer

    def _note(
        self,
        call: Call,
        id: EntryId,
        entry_query: str,
        similarity: float,
        now: datetime,
        *,
        hit: bool,
        shared_key: str,
        same_past: bool = True,
    ) -> None:
        query = call.question.text
        event = ServingEvent(
            now,
            id,
            query,
            query if entry_query == query else entry_query,
            similarity,
            call.category,
            hit,
            same_past,
            shared_key,
        )
        self._events.note(call.caller.tenant, call.request.request_id, event)

    def _observe(self, call: Call, outcome: Outcome, started: float) -> None:
        self._metrics.looked_up(call.category, outcome)
        seconds = time.perf_counter() - started
        category = self._metrics.category(call.category)
        self._metrics.lookup_duration.labels(category).observe(seconds)
