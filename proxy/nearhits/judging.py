"""Was a small model's answer as good as the requested model's? Off the client's path, and bounded.

The requested model is asked what the client asked; where the category declares a format that can be
checked the two answers are compared, else a judge sees them side by side, in either order. Exists
only where a judge is configured: these are calls that no client asked for.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from icl.arms import Observation
from icl.quality import exact_quality, quality_of, score, side_by_side_messages
from proxy.call import Call
from proxy.judge import LONGEST, same_text
from proxy.metrics import Metrics
from proxy.nearhits.served import NearHit
from proxy.side_calls import SideCalls
from proxy.upkeep import stop
from proxy.upstream_errors import UpstreamError
from proxy.wire.base import Json

log = logging.getLogger("nearhit.nearhits")

_MAX_WAITING = 64
_WORKERS = 2
_PATIENCE = 180.0  # seconds for one
_MOST_WEIGHT = 10.0  # of one observation, however rarely such an answer is judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One answer that waits for its verdict."""

    call: Call
    served: NearHit
    probability: float  # with which it was chosen to be judged
    answer: str | None = None  # the small model's; None: it is to be asked, with `body`
    body: dict[str, Json] | None = None
    large: str | None = None  # the requested model's; None: it is to be asked


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
        self._queue: asyncio.Queue[Question] = asyncio.Queue(_MAX_WAITING)
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work off the queue, in tasks of the running loop."""
        self._workers = [
            asyncio.create_task(self._work(), name="nearhit-near-hit-judge")
            for _ in range(_WORKERS)
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
        try:
            self._queue.put_nowait(question)
        except asyncio.QueueFull:
            self._count(question, "dropped")

    async def quality(self, call: Call, small: str, large: str) -> float | None:
        """Return how good an answer is beside the requested model's; None if undecided.

        Raises an UpstreamError.
        """
        checked = exact_quality(call.policy.answer_format, small, large)
        if checked is not None:
            return checked
        if same_text(small, large):
            return 1.0
        return await side_by_side(
            self._side_calls, call, self._model, call.question.text, small, large
        )

    async def _work(self) -> None:
        while True:
            question = await self._queue.get()
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
        call, answer, large = question.call, question.answer, question.large
        if large is None:
            large = await self._side_calls.again(call)
        if answer is None and question.body is not None:
            answer = await self._side_calls.instead(call, question.served.small, question.body)
        if large is None or answer is None:
            return "unreadable"
        quality = await self.quality(call, answer, large)
        if quality is None:
            return "undecided"
        weight = min(1.0 / max(question.probability, 1e-6), _MOST_WEIGHT)
        await self._observe(observation_of(question.served, quality, weight))
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
