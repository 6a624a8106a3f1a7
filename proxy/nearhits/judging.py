"""Was a small model's answer as good as the requested model's? Off the client's path, and bounded.

The requested model is asked what the client asked; where the category declares a format that can be
checked the two answers are compared, else a judge sees them side by side, in either order. Exists
only where a judge is configured: these are calls that no client asked for.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from icl.arms import Observation
from icl.quality import exact_quality, quality_of, score, side_by_side_messages
from proxy.answer_text import answer_text
from proxy.call import Call
from proxy.judge import LONGEST, same_text
from proxy.metrics import Metrics
from proxy.nearhits.cascade import confidence_in
from proxy.nearhits.served import NearHit
from proxy.side_calls import CHAT, SideCalls
from proxy.upkeep import stop
from proxy.upstream_errors import UpstreamError
from proxy.wire.base import Json

log = logging.getLogger("nearhit.nearhits")

_MAX_WAITING = 64  # in each lane
_TRIALS, _AUDITS = 2, 4  # at once
_PATIENCE = 180.0  # seconds for one
_MOST_WEIGHT = 10.0  # of one observation, however rarely such an answer is judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One answer that waits for its verdict."""

    call: Call
    served: NearHit
    probability: float  # with which it was chosen to be judged
    answer: str | None = None  # the small model's; None: it is to be asked, with `body`
    body: Callable[[], dict[str, Json] | None] | None = None  # None of it: there is no trial
    large: str | None = None  # the requested model's; None: it is to be asked
    asked: str | None = None  # what both answer, where it isn't the call's own question


class _Lane:
    """Questions that wait, the latest first: it tells most of what a model is like now."""

    def __init__(self) -> None:
        self._waiting = deque[Question]()
        self._count = asyncio.Semaphore(0)

    def put(self, question: Question) -> Question | None:
        """Have a question wait; return the oldest where there are too many."""
        self._waiting.append(question)
        if len(self._waiting) > _MAX_WAITING:
            return self._waiting.popleft()
        self._count.release()
        return None

    async def take(self) -> Question:
        """Return the latest, as soon as there is one."""
        await self._count.acquire()
        return self._waiting.pop()


class Judging:
    """Queues and judges small models' answers."""

    def __init__(
        self,
        *,
        model: str,
        side_calls: SideCalls,
        observe: Callable[[Observation], Awaitable[None]],
        metrics: Metrics,
    ) -> None:
        self._model = model
        self._side_calls = side_calls
        self._observe = observe
        self._metrics = metrics
        # Trials have the requested model's answer at hand. They do not wait for audits, which in an
        # overload wait for that model behind all clients.
        self._trials, self._audits = _Lane(), _Lane()
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work off the queue, in tasks of the running loop."""
        self._workers = [
            asyncio.create_task(self._work(lane), name="nearhit-near-hit-judge")
            for lane in [self._trials] * _TRIALS + [self._audits] * _AUDITS
        ]

    async def aclose(self) -> None:
        """Stop; what waits or runs is given up."""
        for worker in self._workers:
            await stop(worker)

    @property
    def exhausted(self) -> bool:
        """Whether the hour's budget is spent, so that nothing can be judged now."""
        return self._side_calls.exhausted

    def put(self, question: Question) -> None:
        """Have an answer judged; never waits."""
        if self._side_calls.exhausted:
            self._count(question, "over_budget")
            return
        lane = self._audits if question.large is None else self._trials
        if (dropped := lane.put(question)) is not None:
            self._count(dropped, "dropped")

    async def quality(self, call: Call, asked: str, small: str, large: str) -> float | None:
        """Return how good an answer is beside the requested model's; None if undecided.

        `asked` is what both answer.

        Raises an UpstreamError.
        """
        checked = exact_quality(call.policy.answer_format, small, large)
        if checked is not None:
            return checked
        if same_text(small, large):
            return 1.0
        return await side_by_side(self._side_calls, call, self._model, asked, small, large)

    async def _work(self, lane: _Lane) -> None:
        while True:
            question = await lane.take()
            try:
                async with asyncio.timeout(_PATIENCE):
                    outcome = await self._judge(question)
            except (UpstreamError, TimeoutError) as error:
                log.warning("a near-hit was not judged: %s", error)
                outcome = "failed"
            except Exception:
                log.exception("judging a near-hit failed")
                outcome = "failed"
            self._count(question, outcome)

    async def _judge(self, question: Question) -> str:
        if self._side_calls.exhausted:
            return "over_budget"
        call, served = question.call, question.served
        answer, large = question.answer, question.large
        if large is None:
            large = await self._side_calls.again(call)
        if answer is None and question.body is not None:
            body = question.body()
            if body is None:
                return "untried"
            whole = await self._side_calls.instead(call, served.small, body)
            if whole is not None:
                answer = answer_text(CHAT, whole)
                served = replace(served, confidence=confidence_in(whole))
        if large is None or answer is None:
            return "unreadable"
        asked = call.question.text if question.asked is None else question.asked
        quality = await self.quality(call, asked, answer, large)
        if quality is None:
            return "undecided"
        weight = min(1.0 / max(question.probability, 1e-6), _MOST_WEIGHT)
        await self._observe(observation_of(served, quality, weight))
        return "judged"

    def _count(self, question: Question, outcome: str) -> None:
        category = self._metrics.category(question.call.category)
        self._metrics.near_hit_audits.labels(category, outcome).inc()


def observation_of(served: NearHit, quality: float, weight: float) -> Observation:
    """Return what an answer's quality teaches."""
    return Observation(
        category=served.category,
        small=served.small,
        arm=served.arm,
        context=served.context,
        quality=quality,
        weight=weight,
        examples=served.examples,
        features=served.features,
        at=served.at,
        level=served.level,
        tokens=served.tokens,
        bare=served.bare,
        confidence=served.confidence,
        sent=served.sent,
    )


async def side_by_side(
    side_calls: SideCalls,
    call: Call | None,
    model: str,
    question: str,
    answer: str,
    reference: str,
) -> float | None:
    """Have a model judge an answer beside a reference, in either order; return its quality.

    None where the judge contradicts itself, is not understood, or the texts are too long. Raises
    an UpstreamError.
    """
    if max(len(question), len(answer), len(reference)) > LONGEST:
        return None
    mark = secrets.token_hex(4)
    scores = []
    for first, second in ((answer, reference), (reference, answer)):
        messages = side_by_side_messages(question, first, second, mark)
        said = score(await side_calls.chat(call, model, messages) or "")
        if said is None:
            return None
        scores.append(said)
    return quality_of((scores[0], scores[1]))
