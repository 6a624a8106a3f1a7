"""Which of the entries that a search by meaning found may answer a call.

An entry has to be near enough, pass every guard, share the call's past and, where its category or
the call's has an error budget, be unlikely enough to be wrong. Cheapest first; all of the deciding
is in `store`, here are the numbers fetched that it is done with.

Of several that may, the least likely to be wrong answers. But reading texts is most of what a
lookup costs, so the nearest that the guards let pass is scored first, and others are not even read

- where it is the nearest of all, stands clear of them and is far within its budget: it answers;
- where it is not near and far beyond the budget: what is farther yet is no safer; nothing answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from proxy.call import Call
from proxy.judgement import allowed, barred, guarded, refused, unread
from proxy.look_ahead import LookAhead, wanted_neighbors
from proxy.metrics import Metrics
from proxy.outcome import Barrier, Judgement, Lookup, Outcome, Searched
from proxy.recent_lookups import RecentLookups
from proxy.rules import InForce
from proxy.turns import TurnEncoder
from store.cache import Cache
from store.decision.features import Neighborhood, neighborhoods
from store.entry import Candidate, Held, Vector
from store.policy import Mode
from store.quarantine import Quarantine

_SCORED = 5  # candidates of one search that nothing else forbids
_CLEAR = 0.05  # of cosine: by how much the nearest stands clear of all others
_SURE = 2.0  # times its risk is still within the budget of what answers without those
_FAR = 0.75  # of cosine: what is no nearer than that is none of several much alike
_HOPELESS = 1.5  # times the largest risk that may be served: others are not tried beyond it
Point = Callable[[str, float], float]  # (category, error budget) -> largest P(wrong) to serve


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
        recent: RecentLookups | None = None,
    ) -> None:
        """Where no score fits the call's encoder, an error budget lets nothing pass.

        `recent` remembers what was looked up.
        """
        self._cache = cache
        self._quarantine = quarantine
        self._in_force = in_force
        self._point = point
        self._metrics = metrics
        self._clock = clock
        self._max_wait = max_wait  # seconds for earlier turns' vectors
        self._recent = recent

    async def find(
        self, call: Call, vector: Vector, lookup: Lookup, ahead: LookAhead | None = None
    ) -> Lookup:
        """As `search`; count what was refused although it was near enough, and remember it all."""
        lookup = await self.search(call, vector, lookup, ahead)
        if self._recent is not None:
            self._recent.note(call, lookup, self._clock())
        if lookup.searched is not None:
            for judgement in lookup.searched.judgements:
                if judgement.veto:
                    category = self._metrics.category(call.category)
                    self._metrics.vetoes.labels(category, judgement.veto).inc()
        return lookup

    async def search(
        self, call: Call, vector: Vector, lookup: Lookup, ahead: LookAhead | None = None
    ) -> Lookup:
        """Return what may be served, or `lookup`, what the exact key came to, with what was near.

        Of several candidates the one that is least likely to be wrong answers. Nothing is counted
        and nothing changed. `ahead` may know what is near already.
        """
        found = await self._near(call, vector, ahead)
        now, earlier = self._clock(), call.question.earlier
        judgements = [allowed(call, candidate, now, self._quarantine) for candidate in found]
        outcome, read = None, 0
        if not earlier:
            outcome, read = self._settled(call, found, judgements)
            if outcome is Outcome.HIT:
                candidate = Candidate(*found[0][:2], judgements[0].risk)
                searched = Searched(tuple(found), tuple(judgements))
                return Lookup(outcome, found=candidate, searched=searched)
        for number, candidate in enumerate(found[read:], read):
            judgements[number] = guarded(call, candidate.held, judgements[number])
        order = [] if outcome is Outcome.MISS else self._scored(call, found, judgements)
        for place, number in enumerate(order):
            held, similarity, _ = found[number]
            outcome, _, _, risk = judgements[number]
            if held.earlier != earlier and not await self._shares_past(call, held):
                judgements[number] = Judgement(Outcome.MISS, Barrier.CONTEXT, "context", risk)
                continue
            candidate = Candidate(held, similarity, risk)
            if outcome is Outcome.HIT:
                for other in order[place + 1 :]:
                    judgements[other] = _outdone(judgements[other])
                searched = Searched(tuple(found), tuple(judgements))
                return Lookup(Outcome.HIT, found=candidate, searched=searched)
            if lookup.outcome is Outcome.MISS:
                expired = candidate if outcome is Outcome.STALE else None
                lookup = Lookup(outcome, expired=expired)
        searched = Searched(tuple(found), tuple(judgements))
        if lookup.outcome is Outcome.MISS:
            return self._with_near(call, lookup, searched, now)
        return replace(lookup, searched=searched)

    async def _near(self, call: Call, vector: Vector, ahead: LookAhead | None) -> list[Candidate]:
        key = call.partition
        neighbors = None if ahead is None else ahead.neighbors(key)
        if neighbors is None:
            checkpoint = call.rules.encoding.checkpoint  # whose vector it is
            wanted = wanted_neighbors(call)
            return await self._cache.similar(key, vector, wanted, checkpoint=checkpoint)
        exact = self._cache.exact
        return [Candidate(held, near) for id, near in neighbors if (held := exact(id)) is not None]

    def _settled(
        self, call: Call, found: Sequence[Candidate], judgements: list[Judgement]
    ) -> tuple[Outcome | None, int]:
        """Read no more than the nearest that the guards let pass; say how many are judged then.

        If that settles it, all are: HIT is one on the nearest, MISS none at all. None: it does not.
        """
        for number, (held, *_) in enumerate(found):
            judgements[number] = guarded(call, held, judgements[number])
            if judgements[number].outcome is not Outcome.MISS:
                break
        else:
            return Outcome.MISS, len(found)
        clear = not number and _stands_clear(found, judgements) and not held.earlier
        within = bool(self._scored(call, found, judgements, [number]))
        risk = judgements[number].risk
        if within:
            sure = clear and (risk is None or self._within_budget(call, held, _SURE * risk))
            outcome = Outcome.HIT if sure else None
        else:
            far = found[number].similarity < _FAR
            outcome = Outcome.MISS if far and self._is_hopeless(call, risk) else None
        if outcome is None:
            return None, number + 1
        judgements[number + 1 :] = map(unread, judgements[number + 1 :])
        return outcome, len(found)

    def _is_hopeless(self, call: Call, risk: float | None) -> bool:
        """Whether a risk is far beyond what the call's category lets pass."""
        budget = call.policy.error_budget
        if risk is None or budget is None:
            return False
        return risk > _HOPELESS * self._point(call.category, budget)

    def _with_near(self, call: Call, miss: Lookup, searched: Searched, now: datetime) -> Lookup:
        """Return the miss with the nearest that only its cosine or its score kept from a hit.

        It is no answer, but to compare with the one that comes: whether it would have done.
        """
        near, risk = None, None
        for number, candidate in enumerate(searched.candidates):
            held = candidate.held
            policy = call.policy_over(held)
            if policy is None or policy.mode is not Mode.SEMANTIC:
                continue
            if candidate.similarity < policy.near_threshold:
                continue
            if held.earlier != call.question.earlier or policy.expired(now - held.created_at):
                continue  # after another past, or too old, it would not have done anyway
            if barred(call, held, self._quarantine) is None:
                near, judgement = candidate, searched.judgements[number]
                risk = judgement.risk if judgement.barrier is Barrier.SCORE else None
                break
        around = searched.candidates
        return replace(miss, around=around, searched=searched, near=near, near_risk=risk)

    def _scored(
        self,
        call: Call,
        found: Sequence[Candidate],
        judgements: list[Judgement],
        numbers: Sequence[int] | None = None,
    ) -> list[int]:
        """Return the numbers of those within their budgets, in the order they are to be served in.

        All are looked at, or those of `numbers`. What nothing else is against gets its risk into
        its judgement, and perhaps a refusal. Whoever has the same past goes first, for that costs
        nothing to tell; then the least risk.
        """
        numbers = range(len(found)) if numbers is None else numbers
        passed = [n for n in numbers if judgements[n].outcome is not Outcome.MISS]
        if not passed:
            return passed
        earlier = call.question.earlier
        if earlier:
            passed.sort(key=lambda n: found[n].held.earlier != earlier)
        for number in passed[_SCORED:]:
            judgements[number] = refused(Barrier.CROWDED)
        del passed[_SCORED:]
        kept = []
        for number, risk in zip(passed, self._risks(call, found, passed), strict=True):
            outcome, barrier, _, _ = judgements[number]
            if self._within_budget(call, found[number].held, risk):
                judgements[number] = Judgement(outcome, barrier, "", risk)
                kept.append(number)
            else:
                judgements[number] = Judgement(Outcome.MISS, Barrier.SCORE, "score", risk)
        kept.sort(key=lambda n: (found[n].held.earlier != earlier, judgements[n].risk or 0.0))
        return kept

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

    def _within_budget(self, call: Call, held: Held, risk: float | None) -> bool:
        """Whether both categories' decision points, where they have any, let this risk pass.

        Each is asked for its own budget: what was learnt of a category holds for that one only.
        """
        policies = {call.category: call.policy}
        if held.category != call.category:
            policies[held.category] = call.policy_of(held.category)
        for category, policy in policies.items():
            if policy.error_budget is None:
                continue
            if call.rules.encoding is not self._in_force.rules.encoding:
                return False  # the points of now were learnt of another encoder's risks
            point = self._point(category, policy.error_budget)
            if risk is None or point <= 0.0 or risk > point:
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
        return await turns.same(
            call.question.earlier, held.earlier, vectors, threshold, self._max_wait
        )


def _stands_clear(found: Sequence[Candidate], judgements: Sequence[Judgement]) -> bool:
    """Whether the nearest might be served, and all others are clearly farther."""
    if not found or judgements[0].outcome is not Outcome.HIT:
        return False
    return len(found) == 1 or found[0].similarity - found[1].similarity >= _CLEAR


def _outdone(judgement: Judgement) -> Judgement:
    """Return the judgement of what might have been served as well, had not another been."""
    outcome, barrier, _, risk = judgement
    return Judgement(outcome, Barrier.OUTDONE if barrier is None else barrier, "", risk)
