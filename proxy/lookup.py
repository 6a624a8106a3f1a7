"""The two middle hops, encode and lookup: which category, which stored answer, and why not.

`proxy/outcome.py` holds the rules over a request, `proxy/nearest.py` judges what is found by
meaning; the searcher puts them in order and fetches what they need.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from embed.errors import EmbedError, Overloaded
from proxy.call import Call
from proxy.hops import hop
from proxy.judgement import barred
from proxy.look_ahead import LookAhead
from proxy.metrics import Metrics
from proxy.nearest import Nearest
from proxy.outcome import Lookup, Outcome, exact_only_reason, exact_outcome, skip_reason
from proxy.wire.base import Tier
from store.cache import Cache
from store.economics import Economics
from store.entry import Candidate, Held, Vector
from store.flight import Flights
from store.membership import Membership
from store.policy import DEFAULT_CATEGORY, Mode, Scope
from store.quarantine import Quarantine

log = logging.getLogger("nearhit.lookup")

_STORING = 0.1  # seconds that a commit may take before the next one asking goes on without it


class Unplaced(Exception):
    """The category of a text cannot be told; carries the reason of the bypass."""


def checked(classifier: str) -> str:
    """Return the mark of a category that was named, and that the classifier did not forbid."""
    return f"{classifier}+"


def told_before(call: Call, held: Held) -> tuple[str, str] | None:
    """Return where a call's vector would place it, from its own stored entry; else None.

    The entry answers the very same question, so what told its category, if it is still in force,
    would tell it again; and what did not forbid it would not forbid it now. The category comes
    with the mark of what told it for this call, which may be another than the entry's: a category
    that a header names is nobody else's.
    """
    classifier = call.rules.classifier
    if not classifier or held.category not in call.rules.book:
        return None
    if call.chosen:
        unforbidden = held.classifier in (classifier, checked(classifier))
        return (call.chosen, checked(classifier)) if unforbidden else None
    return (held.category, classifier) if held.classifier == classifier else None


class Searcher:
    """Finds what may be served to a call."""

    def __init__(
        self,
        *,
        cache: Cache,
        quarantine: Quarantine,
        flights: Flights,
        nearest: Nearest,
        economics: Economics,
        metrics: Metrics,
        clock: Callable[[], datetime],
        max_wait: float,
        membership: Membership,
    ) -> None:
        self._cache = cache
        self._quarantine = quarantine
        self._flights = flights
        self._nearest = nearest
        self._economics = economics
        self._metrics = metrics
        self._clock = clock
        self._max_wait = max_wait  # seconds for a vector
        self._membership = membership

    async def find(self, call: Call) -> Lookup:
        """Tell the category if no rule did, then look the exact key up, then the meaning."""
        try:
            if not self._membership.fresh:
                raise Unplaced("fault")
            ahead = LookAhead(call, self._cache)
            if not call.placed:
                await self._place(call, ahead)
            reason = skip_reason(call)
            if reason is not None:
                return Lookup(Outcome.BYPASS, reason=reason, storable=False)
            # Let an answer to this very call that is just being stored become visible.
            await self._flights.landed(call.flight_key, _STORING)
            return await self._find(call, ahead)
        except Unplaced as unplaced:
            return Lookup(Outcome.BYPASS, reason=str(unplaced), storable=False)

    async def _place(self, call: Call, ahead: LookAhead) -> None:
        """Put the call in the category nearest to its text; raise Unplaced if that is unknown.

        A header or an open rule goes before, but not around a category of mode off. A longer
        text than the encoder takes is told by its first window, and only if that is near some
        category: what stands behind it was not read.
        """
        text, rules = call.question.text, call.rules
        if rules.prototypes is None:
            raise Unplaced("fault")
        encoder = rules.encoding.encoder
        whole = encoder.fits(text)
        window = text if whole else encoder.first_window(text)
        if window is None:
            raise Unplaced("size")
        vector = await self._encoded(call, window, ahead if whole else None)
        category = rules.prototypes.classify(vector)
        if call.chosen and rules.book[category].mode is not Mode.OFF:
            call.place(call.chosen, checked(rules.classifier))
            return
        if category == DEFAULT_CATEGORY and not whole:
            raise Unplaced("size")
        call.place(category, rules.classifier)

    async def _encoded(self, call: Call, text: str, ahead: LookAhead | None) -> Vector:
        """Return the text's vector; raise Unplaced when the encoder is full, slow or failing."""
        try:
            async with asyncio.timeout(self._max_wait):
                with hop("encode"):
                    return await call.rules.encoding.batcher.encode(text, ahead)
        except (Overloaded, TimeoutError):
            raise Unplaced("overload") from None
        except EmbedError as error:
            log.warning("encoding failed for %s: %s", call.request.request_id, error)
            self._metrics.faults.labels("encoder").inc()
            raise Unplaced("fault") from None

    async def _find(self, call: Call, ahead: LookAhead) -> Lookup:
        lookup = self.find_exact(call)
        if lookup.outcome is Outcome.HIT or call.policy.mode is not Mode.SEMANTIC:
            return lookup
        reason = exact_only_reason(call)
        if reason is None and call.question.tier is Tier.SEMANTIC:
            if call.rules.encoding.encoder.fits(call.question.text):
                return await self._find_similar(call, lookup, ahead)
            reason = "size"
        if reason is not None and lookup.outcome is Outcome.MISS:
            return replace(lookup, outcome=Outcome.BYPASS, reason=reason)
        return lookup

    def find_exact(self, call: Call) -> Lookup:
        """Look in memory under the exact key, and under that of other tenants' in scope shared."""
        if call.directives.no_cache:
            return Lookup(Outcome.REQUEST)
        lookup = Lookup(Outcome.MISS)
        held = self._cache.exact(call.id)
        if held is not None and not self._quarantine.holds(held.id, call.caller.tenant):
            lookup = self._judged(call, Candidate(held, 1.0))
        if lookup.outcome is Outcome.MISS and call.policy.scope is Scope.SHARED:
            for twin in self._cache.twins(call.shared_key):
                if twin.id != call.id and barred(call, twin, self._quarantine) is None:
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

    async def _find_similar(self, call: Call, lookup: Lookup, ahead: LookAhead) -> Lookup:
        """Search by meaning; `lookup` is what the exact key came to."""
        group = call.group
        if not self._economics.worthwhile(call.category, group):
            return replace(lookup, encode_later=True)
        started = time.perf_counter()
        vector = await self._encoded(call, call.question.text, ahead)
        if call.directives.no_cache:
            return replace(lookup, vector=vector)
        found = await self._nearest.find(call, vector, lookup, ahead)
        hit = found.outcome is Outcome.HIT
        seconds = time.perf_counter() - started
        self._economics.looked_up(call.category, group, hit=hit, seconds=seconds)
        return replace(found, vector=vector)
