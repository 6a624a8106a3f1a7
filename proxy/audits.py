"""Audits: was what the cache served the answer that the upstream would have given?

Off the client's path: whoever serves only draws lots and puts the call into a bounded queue. A few
workers ask the upstream again, have the two answers judged, and tell the error budget. Three kinds:

- `hit`: a hit by meaning. The stored answer against a fresh one, for this very question.
- `control`: an exact hit, or an audit's fresh answer beside a second one. The first is right by
  construction, so "wrong" is a false alarm of the judge, the upstream's moods included.
- `near-miss`: an ordinary miss beside which a stored answer nearly hit. Both answers exist, so no
  upstream is asked; what it brings is a labelled pair. In a category that its budget has closed, or
  complaints have tightened, it also is what speaks for opening it again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import orjson

from proxy.answer_text import TEXT_ROUTES, answer_text
from proxy.audit_records import AuditRecords
from proxy.call import Call
from proxy.judge import Verdict, judge
from proxy.kept_budgets import KeptBudgets
from proxy.metrics import Metrics
from proxy.side_calls import SideCalls
from proxy.upkeep import stop
from proxy.upstream_errors import UpstreamError
from proxy.wire.base import Fields, Json
from store.cache import Cache
from store.decision.budget_values import Sample
from store.decision.guards import veto
from store.entry import Candidate, Held
from store.errors import StoreUnavailable
from store.policy import Mode

log = logging.getLogger("nearhit.audits")

NEAR_SAMPLING = 0.02  # of near-misses
MAX_WAITING = 64  # audits
WORKERS = 2
_LARGEST_BODY = 64 * 1024  # bytes of a request that is sent again
_PATIENCE = 180.0  # seconds for one audit
_FOR_PAIRS = 0.5  # of the hour's budget may go into near-misses, which move no point

Kind = Literal["hit", "control", "near-miss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One that waits."""

    kind: Kind
    call: Call
    found: Candidate
    risk: float  # P(wrong) when it was served, or would have been
    sample: Sample
    fresh: str | None = None  # of a near-miss: what the upstream answered


class Unjudged(Exception):
    """An audit came to no verdict; carries the outcome for the metrics."""


class Audits:
    """Draws, queues and runs audits. Exists only where a judge is configured."""

    def __init__(
        self,
        *,
        model: str,
        budgets: KeptBudgets,
        side_calls: SideCalls,
        cache: Cache,
        records: AuditRecords,
        metrics: Metrics,
        clock: Callable[[], datetime],
        draw: Callable[[], float] = random.random,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._model = model
        self._budgets = budgets
        self._side_calls = side_calls
        self._cache = cache
        self._records = records
        self._metrics = metrics
        self._clock = clock
        self._draw = draw
        self._queue: asyncio.Queue[Audit] = asyncio.Queue(max_waiting)
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work off the queue, in tasks of the running loop."""
        self._workers = [
            asyncio.create_task(self._work(), name="nearhit-audit") for _ in range(WORKERS)
        ]

    async def aclose(self) -> None:
        """Stop; what waits or runs is given up."""
        for worker in self._workers:
            await stop(worker)

    @property
    def waiting(self) -> int:
        """How many audits wait."""
        return self._queue.qsize()

    def standing(self) -> dict[str, float | str]:
        """Return what the overview says of the judge."""
        return {
            "model": self._model,
            "spent_last_hour": round(self._side_calls.spent, 6),
            "max_cost_per_hour": self._side_calls.spending.most,
            "waiting": self.waiting,
        }

    # -- what serving calls: nothing here waits, or raises

    def consider(self, call: Call, found: Candidate, risk: float) -> None:
        """Perhaps audit a hit by meaning that was served with this risk."""
        if not may_audit(call, found.held):
            return
        sample = self._budgets.live.sample(call.category, call.policy.error_budget)
        if self._draw() < sample.probability:
            self._put(Audit(kind="hit", call=call, found=found, risk=risk, sample=sample))

    def consider_control(self, call: Call, held: Held) -> None:
        """Perhaps use an exact hit to measure the judge."""
        budgets, budget = self._budgets.live, call.policy.error_budget
        probability = budgets.control_sampling(call.category, budget)
        if self._draw() >= probability or not may_audit(call, held):
            return
        sample = Sample(probability, 0.0, 0)
        found = Candidate(held, 1.0)
        self._put(Audit(kind="control", call=call, found=found, risk=0.0, sample=sample))

    def consider_near_miss(
        self, call: Call, near: Candidate, answer: Fields, risk: float | None = None
    ) -> None:
        """Perhaps judge a stored answer that nearly hit against the one that the upstream gave.

        `risk` is the near candidate's, if the score was all that refused it.
        """
        budgets, budget = self._budgets.live, call.policy.error_budget
        sample = budgets.sample(call.category, budget)
        moves = risk is not None and budgets.learns_from_miss(call.category, budget, risk)
        if not moves:
            sample = sample._replace(probability=NEAR_SAMPLING)
        if self._draw() >= sample.probability or not may_audit(call, near.held):
            return
        if veto(call.question.text, near.held.query) is not None:
            return
        spending = self._side_calls.spending
        if not moves and self._side_calls.spent > _FOR_PAIRS * spending.most:
            return
        fresh = answer_text(call.wire.path, answer)
        if fresh is not None:
            shown = -1.0 if risk is None else risk
            self._put(
                Audit(
                    kind="near-miss", call=call, found=near, risk=shown, sample=sample, fresh=fresh
                )
            )

    def _put(self, audit: Audit) -> None:
        if self._side_calls.exhausted:
            self._count(audit, "over_budget")
            return
        try:
            self._queue.put_nowait(audit)
        except asyncio.QueueFull:
            self._count(audit, "dropped")

    def _count(self, audit: Audit, outcome: str) -> None:
        category = self._metrics.category(audit.call.category)
        self._metrics.audits.labels(category, audit.kind, outcome).inc()

    # -- what the workers do

    async def _work(self) -> None:
        while True:
            audit = await self._queue.get()
            try:
                async with asyncio.timeout(_PATIENCE):
                    outcome = await self._run(audit)
            except Unjudged as unjudged:
                outcome = str(unjudged)
            except (UpstreamError, StoreUnavailable, TimeoutError) as error:
                log.warning("an audit came to nothing: %s", error)
                outcome = "failed"
            except Exception:
                log.exception("an audit failed")
                outcome = "failed"
            self._count(audit, outcome)

    async def _run(self, audit: Audit) -> str:
        call, held = audit.call, audit.found.held
        if self._side_calls.exhausted:
            raise Unjudged("over_budget")
        document = await self._cache.document(held.id)
        now = self._cache.exact(held.id)
        if document is None or now is None or now.created_at != held.created_at:
            raise Unjudged("gone")  # or another answer stands in the place of what was served
        stored = answer_text(call.wire.path, orjson.loads(document.body))
        if stored is None:  # calls tools, or has several choices
            raise Unjudged("unreadable")
        fresh = audit.fresh or await self._again(call)
        verdict = await self._judge(call, stored, fresh)
        if verdict is Verdict.UNDECIDED:
            return verdict
        await self._tell(audit, wrong=verdict is Verdict.WRONG)
        if audit.kind == "hit":
            await self._control(audit, fresh)
        return verdict

    async def _tell(self, audit: Audit, *, wrong: bool) -> None:
        category = audit.call.category
        match audit.kind:
            case "hit":
                await self._budgets.audited(category, audit.sample, audit.risk, wrong=wrong)
                if wrong:
                    await self._records.stop(audit.call, audit.found.held, self._clock())
            case "control":
                await self._budgets.controlled(category, wrong=wrong)
                return
            case "near-miss":
                if audit.risk >= 0.0:
                    await self._budgets.missed(category, audit.sample, audit.risk, wrong=wrong)
        source: Literal["audit", "near-miss"] = "audit" if audit.kind == "hit" else "near-miss"
        await self._records.pair(audit.call, audit.found, self._clock(), source, wrong=wrong)

    async def _control(self, audit: Audit, fresh: str) -> None:
        """Where exact hits are too rare to measure the judge by, ask a second time for that."""
        call = audit.call
        wanted = self._budgets.live.wants_control(call.category, call.policy.error_budget)
        if not wanted or self._side_calls.exhausted:
            return
        verdict = await self._judge(call, fresh, await self._again(call))
        if verdict is not Verdict.UNDECIDED:
            await self._budgets.controlled(call.category, wrong=verdict is Verdict.WRONG)
        category = self._metrics.category(call.category)
        self._metrics.audits.labels(category, "control", verdict).inc()

    async def _again(self, call: Call) -> str:
        fresh = await self._side_calls.again(call)
        if fresh is None:
            raise Unjudged("unreadable")
        return fresh

    async def _judge(self, call: Call, stored: str, fresh: str) -> Verdict:
        async def ask(messages: Json) -> str | None:
            return await self._side_calls.chat(call, self._model, messages)

        return await judge(call.question.text, stored, fresh, ask)


def may_audit(call: Call, held: Held) -> bool:
    """Whether this call may be asked again, and its answers shown to the judge."""
    book = call.rules.book
    if not call.policy.audit or call.policy.mode is not Mode.SEMANTIC:
        return False
    if held.category not in book or not book[held.category].audit:
        return False
    wishes = call.directives
    if wishes.no_store or wishes.only_if_cached:
        return False
    if call.rules.bent and (call.category, call.group) in call.rules.bent:
        return False  # the upstream has enough to do
    readable = call.wire.path in TEXT_ROUTES and call.question.text != ""
    return readable and len(call.request.raw) <= _LARGEST_BODY
