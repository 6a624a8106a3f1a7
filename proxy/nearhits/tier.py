"""Between a miss and the requested model: may a small one answer, and does it?

Whatever goes wrong here means the requested model, counted. Nothing that a small model says is
stored: it is never replayed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson

from icl.arms import Arm, Observation, Situation
from icl.confidence import Confidence
from icl.context import build as build_context
from icl.prompt import refusal
from icl.selection import Limits, select
from proxy.answer import Answer
from proxy.call import Call
from proxy.metrics import Metrics
from proxy.model_settings import Offload as Pairing
from proxy.nearhits.asking import Asking, Unfit
from proxy.nearhits.cascade import Check, Unsure
from proxy.nearhits.gathering import Gatherer
from proxy.nearhits.judging import observation_of
from proxy.nearhits.learning import Learning
from proxy.nearhits.plan import Expected, Offer, Plan, Prospect
from proxy.nearhits.planning import load_of, may_offload, pairing_for, room_for_examples
from proxy.nearhits.served import Served
from proxy.nearhits.verdicts import Verdicts, asked_of_small
from proxy.nearhits.waiting import Waiting
from proxy.outcome import Lookup, Outcome
from proxy.upstream import Upstreams
from proxy.upstream_errors import ModelUnknown, UpstreamError
from proxy.usage.counting import Usage
from store.economics import Economics
from store.entry import EntryId
from store.policy import Offload

log = logging.getLogger("nearhit.nearhits")

_AGAIN = 0.3  # weight of a question asked again: it may have been a habit
_RECENT = 10.0  # seconds of calls that the latency is taken from
_FEWEST = 5  # of them
_HEARD = 24 * 3600.0  # seconds for which a client's verdict shows that there are such


class NearHits:
    """Answers near-hits by small models, where that is allowed and good enough."""

    def __init__(
        self,
        *,
        pairings: Sequence[Pairing],
        gatherer: Gatherer,
        learning: Learning,
        asking: Asking,
        upstreams: Upstreams,
        verdicts: Verdicts | None,
        metrics: Metrics,
        economics: Economics,
        touch: Callable[[EntryId], None],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        usage: Usage | None = None,
    ) -> None:
        """`touch` notes that an entry was of use; `clock` gives unix seconds."""
        self._pairings = tuple(pairings)
        self._gatherer = gatherer
        self._learning = learning
        self._asking = asking
        self._upstreams = upstreams
        self._verdicts = verdicts
        self._metrics = metrics
        self._economics = economics
        self._touch = touch
        self._clock = clock
        self._monotonic = monotonic
        self._waiting = Waiting(upstreams, economics, monotonic)
        self._usage = usage
        self._served = Served()
        self._heard: dict[str, float] = {}  # categories by when a client last gave a verdict

    async def answer(self, call: Call, lookup: Lookup) -> Answer | Lookup:
        """Return a small model's answer; a lookup leaves the call to the requested model.

        That is the one given, perhaps with what is to be told the requested model's answer.
        Never raises but for a cancelled task.
        """
        if lookup.outcome is not Outcome.MISS or lookup.vector is None:
            return lookup
        pairing = pairing_for(call.model, self._pairings)
        if pairing is None or not may_offload(call) or not self._may_learn(call):
            return lookup
        try:
            if await self._asked_again(call):
                return lookup
            if unavailable := self._unavailable(pairing):
                self._count(call, Arm.REQUESTED, unavailable)
                return lookup
            plan = await self._plan(call, lookup, pairing)
        except Exception:
            log.exception("near-hit of %s not planned", call.request.request_id)
            self._count(call, Arm.REQUESTED, "fault")
            return lookup
        if plan is None:
            return lookup
        if plan.choice.arm is Arm.REQUESTED:
            self._count(call, Arm.REQUESTED, "chosen")
            return lookup if self._verdicts is None else self._verdicts.beside(plan, lookup)
        return await self._ask(plan, lookup)

    async def expected(self, call: Call, lookup: Lookup) -> Expected:
        """Return what `answer` would do with a miss. Nothing is counted, asked or learnt."""
        pairing = pairing_for(call.model, self._pairings)
        if pairing is None:
            return Expected(reason="pairing")
        if not may_offload(call):
            return Expected(reason="offload")
        if not self._may_learn(call):
            return Expected(reason="unjudged")
        if self._served.would_ask_again(call.id, self._clock(), call.asker):
            return Expected(reason="asked_again")
        if unavailable := self._unavailable(pairing):
            return Expected(reason=unavailable)
        if refusal(call.body) is not None:
            return Expected(reason="request")
        level = self._learning.tuner.adopted
        prospect = await self._prospect(call, lookup, pairing, lambda: level)
        if prospect is None:
            return Expected(reason="examples")
        favour = self._learning.router.favour(prospect.situation)
        return Expected(reason="", prospect=prospect, favour=favour)

    def given(self, tenant: str, request_id: str) -> Observation | None:
        """Return the tenant's near-hit of this request for its verdict, once; None without one.

        Its quality is to be said by whoever asked.
        """
        served = self._served.named(tenant, request_id, self._clock())
        return None if served is None else observation_of(served, 0.0, 1.0)

    async def verdict(self, given: Observation, *, wrong: bool) -> None:
        """Take a client's word on a near-hit, of this process or another one."""
        self.heard(given.category)
        await self._learning.observe(replace(given, quality=0.0 if wrong else 1.0))

    def heard(self, category: str) -> None:
        """Note that clients of a category say how good its answers are."""
        self._heard[category] = self._clock()

    def _may_learn(self, call: Call) -> bool:
        """Whether somebody tells how good the answers are, or the category needs nobody to."""
        if call.policy.offload is Offload.UNJUDGED or self._is_heard(call):
            return True
        return self._verdicts is not None and call.policy.audit

    def _is_heard(self, call: Call) -> bool:
        """Whether clients of the call's category give verdicts."""
        return self._clock() - self._heard.get(call.category, float("-inf")) < _HEARD

    def _exploration(self, call: Call) -> float:
        """Return the category's exploration; 0 while nobody could say what came of it."""
        spent = self._verdicts is None or self._verdicts.exhausted
        return 0.0 if spent and not self._is_heard(call) else call.policy.exploration

    async def _asked_again(self, call: Call) -> bool:
        """Whether a small model has just answered this; whoever asks again was not content."""
        served = self._served.asked_again(call.id, self._clock(), call.asker)
        if served is None:
            return False
        self._count(call, Arm.REQUESTED, "asked_again")
        await self._learning.observe(observation_of(served, 0.0, _AGAIN))
        return True

    async def _plan(self, call: Call, lookup: Lookup, pairing: Pairing) -> Plan | None:
        if refusal(call.body) is not None:
            return None
        prospect = await self._prospect(call, lookup, pairing, self._learning.level)
        if prospect is None:
            return None
        choice = self._learning.router.choose(prospect.situation)
        return Plan(call=call, prospect=prospect, choice=choice)

    async def _prospect(
        self, call: Call, lookup: Lookup, pairing: Pairing, level_of: Callable[[], float]
    ) -> Prospect | None:
        """Return what the router is to decide from; None if nothing like it is known."""
        if lookup.vector is None:
            return None
        candidates = await self._gatherer.examples(call, lookup.around)
        if not candidates:
            return None  # nothing like it is known: an ordinary miss
        room = room_for_examples(call.body, pairing.window, pairing.example_tokens)
        limits = Limits(most=pairing.max_examples, tokens=room, threshold=level_of())
        selection = select(call.question.text, candidates, self._learning.utility, limits)
        context = build_context(
            lookup.vector,
            [each.similarity for each in candidates],
            selection.utilities,
            len(call.question.text),
            sum(len(each.answer) for each in candidates) // len(candidates),
            [each.answer for each in selection.examples],
        )
        situation = Situation(
            category=call.category,
            small=pairing.small,
            floor=call.policy.quality_floor,
            exploration=self._exploration(call),
            judged=call.policy.offload is not Offload.UNJUDGED,
            context=context,
            examples=len(selection.examples),
            load=self._load(call, pairing),
            price=pairing.price,
            cascade=pairing.cascade,
        )
        return Prospect(
            pairing=pairing,
            situation=situation,
            candidates=candidates,
            selection=selection,
            limits=limits,
        )

    def load(self, pairing: Pairing) -> float:
        """Return the load on a pairing's requested models now, by calls in flight; the highest."""
        try:
            groups = [self._upstreams.route(pairing.model)]
        except ModelUnknown:  # a pattern, which several may serve
            groups = list(self._upstreams.groups)
        return max(load_of(group.in_flight, pairing.busy, None, None) for group in groups)

    def _load(self, call: Call, pairing: Pairing) -> float:
        group = self._upstreams.route(call.model)
        target = call.policy.load.latency_target_ms / 1e3 if call.policy.load else None
        p95 = None
        if target is not None:
            p95 = group.latency_p95(self._monotonic(), _RECENT, _FEWEST)
        return load_of(group.in_flight, pairing.busy, p95, target)

    def _unavailable(self, pairing: Pairing) -> str:
        """Return whether the small model is resting, or busy: a queue would be slower; else ""."""
        most = pairing.small_busy
        if self._waiting.rests(pairing.small):
            return "resting"
        if most is not None and self._upstreams.route(pairing.small).in_flight >= most:
            return "busy"
        return ""

    async def _ask(self, plan: Plan, lookup: Lookup) -> Answer | Lookup:
        """Return the small model's answer; the lookup when none went out."""
        call, arm, small = plan.call, plan.choice.arm, plan.prospect.pairing.small
        offer = Offer(plan, self._clock())
        try:
            with self._waiting.asked(small):
                answer = await self._asking.ask(
                    call,
                    small,
                    asked_of_small(plan, arm),
                    self._done(offer),
                    self._check(offer),
                    patience=self._waiting.patience(call, small),
                )
        except Unsure as unsure:
            self._count(call, arm, "unsure")
            if self._usage is not None:
                told = None if unsure.whole is None else orjson.loads(unsure.whole)
                self._usage.unsent(call, small, told)
            if self._verdicts is None:
                return lookup
            return self._verdicts.unsent(offer, unsure.whole, lookup)
        except (UpstreamError, Unfit) as error:
            log.info("near-hit of %s goes to the requested model: %s", call.model, error)
            self._count(call, arm, "failed" if isinstance(error, UpstreamError) else "unfit")
            return lookup
        except Exception:
            log.exception("near-hit of %s failed", call.request.request_id)
            self._count(call, arm, "fault")
            return lookup
        served = offer.near_hit
        self._served.note(served)
        self._learning.offered(served.examples, served.at)
        for id in served.examples:
            self._touch(id)
        self._economics.helped(call.category, call.group)
        self._count(call, arm, "answered")
        if served.examples:
            self._metrics.example_tokens.observe(served.tokens)
        return answer

    def _check(self, offer: Offer) -> Check | None:
        """Return what says whether an answer may go out; None where any may."""
        plan = offer.plan
        if not plan.prospect.pairing.cascade:
            return None

        def check(confidence: Confidence) -> bool:
            offer.sure(confidence)
            router, situation = self._learning.router, plan.prospect.situation
            return router.passes(situation, plan.choice.arm, confidence)

        return check

    def _done(self, offer: Offer) -> Callable[[bytes], None]:
        """Return what is told the whole answer, once it has gone out: perhaps to have it judged."""

        def done(whole: bytes) -> None:
            served = offer.near_hit
            if self._usage is not None:
                told = orjson.loads(whole)
                self._usage.used_instead(offer.plan.call, served.small, told, served.tokens)
            if self._verdicts is not None:
                self._verdicts.sent(offer, whole)

        return done

    def _count(self, call: Call, arm: Arm, outcome: str) -> None:
        category = self._metrics.category(call.category)
        self._metrics.offloads.labels(category, arm, outcome).inc()
