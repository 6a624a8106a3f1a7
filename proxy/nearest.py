"""Which of the entries that a search by meaning found may answer a call.

An entry has to be near enough, pass every guard, share the call's past and, where its category or
the call's has an error budget, be unlikely enough to be wrong. Cheapest first; all of the deciding
is in `store`, here are the numbers fetched that it is done with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from proxy.call import Call
from proxy.metrics import Metrics
from proxy.outcome import Lookup, Outcome, exact_outcome
from proxy.rules import InForce
from proxy.turns import TurnEncoder
from store.cache import Cache
from store.decision.features import NEIGHBORS, Neighborhood, neighborhoods
from store.decision.guards import veto
from store.entry import Candidate, EntryId, Held, Vector
from store.policy import Mode, Scope, Verdict
from store.quarantine import Quarantine

log = logging.getLogger("nearhit.lookup")

# Of a follow-up: "and then?" is asked in many dialogues, and nearest are those of others.
_FOLLOW_UP_NEIGHBORS = 32
_SCORED = 5  # candidates of one search that nothing else forbids
Point = Callable[[str, float], float]  # (category, error budget) -> largest P(wrong) to serve


def may_have(call: Call, held: Held, quarantine: Quarantine) -> bool:
    """Whether this caller may be served the entry at all."""
    if quarantine.holds(held.id, call.caller.tenant):
        return False
    if held.tenant == call.caller.tenant:
        return True
    if held.shared_key and call.policy.scope is Scope.SHARED:
        return held.approved
    # The partition holds the tenant already: reaching this is a bug, and never a hit.
    log.error("entry %s of another tenant was found; refused", held.id)
    return False


class Nearest:
    """Searches by meaning and judges what it finds."""

    def __init__(
        self,
        *,
        cache: Cache,
        quarantine: Quarantine,
        in_force: InForce,
        point: Point,
        metrics: Metrics,
        clock: Callable[[], datetime],
        max_wait: float,
    ) -> None:
        """Where no score fits the call's encoder, an error budget lets nothing pass."""
        self._cache = cache
        self._quarantine = quarantine
        self._in_force = in_force
        self._point = point
        self._metrics = metrics
        self._clock = clock
        self._max_wait = max_wait  # seconds for earlier turns' vectors

    async def find(self, call: Call, vector: Vector, lookup: Lookup) -> Lookup:
        """Return what may be served, or `lookup`, what the exact key came to, with what was near.

        Of several candidates the one that is least likely to be wrong answers.
        """
        now, earlier = self._clock(), call.question.earlier
        wanted = _FOLLOW_UP_NEIGHBORS if earlier else NEIGHBORS
        checkpoint = call.rules.encoding.checkpoint  # whose vector it is
        found = await self._cache.similar(call.partition, vector, wanted, checkpoint=checkpoint)
        passed = [
            (number, outcome)
            for number, candidate in enumerate(found)
            if (outcome := self._judge(call, candidate, now)) is not Outcome.MISS
        ]
        refused: dict[EntryId, float | None] = {}
        for candidate, outcome in self._scored(call, found, passed, refused):
            same_past = candidate.held.earlier == earlier
            if not same_past and not await self._shares_past(call, candidate.held):
                continue
            if outcome is Outcome.HIT:
                return Lookup(Outcome.HIT, found=candidate)
            if lookup.outcome is Outcome.MISS:
                expired = candidate if outcome is Outcome.STALE else None
                lookup = Lookup(outcome, expired=expired)
        if lookup.outcome is Outcome.MISS:
            around = replace(lookup, around=tuple(found))
            return self._with_near(call, around, found, refused, now)
        return lookup

    def _with_near(
        self,
        call: Call,
        miss: Lookup,
        found: Sequence[Candidate],
        refused: Mapping[EntryId, float | None],
        now: datetime,
    ) -> Lookup:
        """Return the miss with the nearest that only its cosine or its score kept from a hit.

        It is no answer, but to compare with the one that comes: whether it would have done.
        """
        for candidate in found:
            held = candidate.held
            policy = call.policy_over(held)
            if policy is None or policy.mode is not Mode.SEMANTIC:
                continue
            if candidate.similarity < policy.near_threshold:
                continue
            if held.earlier != call.question.earlier or policy.expired(now - held.created_at):
                continue  # after another past, or too old, it would not have done anyway
            if may_have(call, held, self._quarantine):
                return replace(miss, near=candidate, near_risk=refused.get(held.id))
        return miss

    def _judge(self, call: Call, candidate: Candidate, now: datetime) -> Outcome:
        held, similarity, _ = candidate
        policy = call.policy_over(held)
        if policy is None or policy.mode is not Mode.SEMANTIC:
            return Outcome.MISS
        if not may_have(call, held, self._quarantine) or similarity < call.asked_threshold:
            return Outcome.MISS
        if policy.judge(similarity, now - held.created_at) is Verdict.MISS:
            return Outcome.MISS
        guard = veto(call.question.text, held.query)
        if guard is not None:
            self._refused(call, guard)
            return Outcome.MISS
        return exact_outcome(call, held, policy, now)

    def _scored(
        self,
        call: Call,
        found: Sequence[Candidate],
        passed: Sequence[tuple[int, Outcome]],
        refused: dict[EntryId, float | None],
    ) -> list[tuple[Candidate, Outcome]]:
        """Return those within their budgets, in the order in which they are to be served.

        The risks of the others are put in `refused`. Whoever has the same past goes first, for
        that costs nothing to tell; then the least risk.
        """
        earlier = call.question.earlier
        known = sorted(passed, key=lambda each: found[each[0]].held.earlier != earlier)[:_SCORED]
        risks = self._risks(call, found, [number for number, _ in known])
        kept = []
        for risk, (number, outcome) in zip(risks, known, strict=True):
            candidate = found[number]._replace(risk=risk)
            if self._within_budget(call, candidate):
                kept.append((candidate, outcome))
            else:
                refused[candidate.held.id] = risk
                self._refused(call, "score")
        return sorted(kept, key=lambda c: (c[0].held.earlier != earlier, c[0].risk or 0.0))

    def _risks(
        self, call: Call, found: Sequence[Candidate], numbers: Sequence[int]
    ) -> list[float | None]:
        """Return P(wrong) of some of what was found; None for all when no budget asks for it."""
        budgets = [self._budget(call, found[number].held) for number in numbers]
        score = call.rules.encoding.score.now
        if score is None or all(budget is None for budget in budgets):
            return [None] * len(numbers)
        if call.question.earlier:  # near a follow-up stand other dialogues, which say nothing
            places = [Neighborhood(each.similarity) for each in found]
        else:
            places = neighborhoods([each.similarity for each in found])
        candidates = [
            (found[number].held.query, found[number].held.category, places[number])
            for number in numbers
        ]
        return [*score.wrong(call.question.text, candidates, call.category)]

    def _budget(self, call: Call, held: Held) -> float | None:
        policy = call.policy_over(held)
        return None if policy is None else policy.error_budget

    def _within_budget(self, call: Call, candidate: Candidate) -> bool:
        """Whether both categories' decision points, where they have any, let this risk pass.

        Each is asked for its own budget: what was learnt of a category holds for that one only.
        """
        policies = {call.category: call.policy}
        if candidate.held.category != call.category:
            policies[candidate.held.category] = call.policy_of(candidate.held.category)
        for category, policy in policies.items():
            if policy.error_budget is None:
                continue
            if call.rules.encoding is not self._in_force.rules.encoding:
                return False  # the points of now were learnt of another encoder's risks
            point = self._point(category, policy.error_budget)
            if candidate.risk is None or point <= 0.0 or candidate.risk > point:
                return False
        return True

    async def _shares_past(self, call: Call, held: Held) -> bool:
        """Whether the users' earlier turns, not all equal, mean the same in call and entry."""
        policy = call.policy_over(held)
        if policy is None:
            return False
        threshold = max(policy.context_threshold, call.asked_threshold)
        encoding = call.rules.encoding
        vectors = self._cache.vectors.earlier(held.id, encoding.checkpoint)
        turns = TurnEncoder(encoding)
        if await turns.same(
            call.question.earlier, held.earlier, vectors, threshold, self._max_wait
        ):
            return True
        self._refused(call, "context")
        return False

    def _refused(self, call: Call, why: str) -> None:
        self._metrics.vetoes.labels(self._metrics.category(call.category), why).inc()
