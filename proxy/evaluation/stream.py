"""Replay a stream of queries: what is asked is answered from the cache or stored for the next."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from proxy.evaluation.jsonl import Asked
from proxy.evaluation.stage import Progress, Reply, Stage
from proxy.evaluation.stream_rows import StreamRow
from proxy.evaluation.windows import Prices, Window

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)  # of every stream's time
JUDGE_NOISE = 0.05  # the share of its verdicts in which a judge is mistaken


class Answered(NamedTuple):
    """A stored answer that a query was given."""

    answer_id: str
    question: Asked  # the stored one
    exact: bool  # the answer to this very request
    category: str
    risk: float  # the estimated probability that it is wrong


# Answers a query from the cache; None: it was a miss, and whatever may be stored has been.
Respond = Callable[[StreamRow], Awaitable[Answered | None]]
OnSemanticHit = Callable[[str, float, bool], None]  # (category, risk, judged wrong)
OnExactHit = Callable[[str, bool], None]  # (category, judged wrong)
OnFalseHit = Callable[[StreamRow, Answered], None]


class StreamClock:
    """The time of a stream: what its rows say it is."""

    def __init__(self) -> None:
        self._now = BEGINNING

    def __call__(self) -> datetime:
        """Return the time."""
        return self._now

    def advance(self, row: StreamRow) -> None:
        """Let it be the time at which this row comes."""
        self._now = BEGINNING + timedelta(seconds=row.t)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Who learns from the hits of a replay, and how mistaken the verdicts are that they learn from.

    `on_semantic_hit` is told of every answer that another question's entry gave, `on_exact_hit` of
    those that were the request's own and right by construction: what a judge says against them is
    its false alarms. `on_near_miss` is told of the misses beside which only the score kept the
    nearest stored answer from being served, and whether that was judged wrong. A verdict is turned
    round with probability `noise`.
    """

    on_semantic_hit: OnSemanticHit
    on_exact_hit: OnExactHit | None = None
    on_near_miss: OnSemanticHit | None = None
    noise: float = JUDGE_NOISE
    seed: int = 0


async def replay(
    rows: Sequence[StreamRow],
    respond: Respond,
    on_progress: Progress,
    *,
    window: int,
    prices: Prices,
    judgement: Judgement | None = None,
    on_false_hit: OnFalseHit | None = None,
) -> list[Window]:
    """Ask the rows in order; return what they came to, `window` queries at a time."""
    seen: set[Asked] = set()
    windows: list[Window] = []
    noise = random.Random(0 if judgement is None else judgement.seed)
    for number, row in enumerate(rows):
        if number % window == 0:
            if windows:
                on_progress(f"asked {number} of {len(rows)} queries")
            windows.append(Window())
        answer = await respond(row)
        wrong = answer is not None and answer.answer_id != row.answer_id
        windows[-1].note(
            prices.of(row), repeat=row.question in seen, hit=answer is not None, wrong=wrong
        )
        seen.add(row.question)
        if answer is not None and wrong and on_false_hit is not None:
            on_false_hit(row, answer)
        if answer is not None and judgement is not None:
            _judge(judgement, answer, wrong != (noise.random() < judgement.noise))
    on_progress(f"asked {len(rows)} of {len(rows)} queries")
    return windows


def _judge(judgement: Judgement, answer: Answered, judged_wrong: bool) -> None:
    if not answer.exact:
        judgement.on_semantic_hit(answer.category, answer.risk, judged_wrong)
    elif judgement.on_exact_hit is not None:
        judgement.on_exact_hit(answer.category, judged_wrong)


async def replay_on_stage(
    stage: Stage,
    clock: StreamClock,
    rows: Sequence[StreamRow],
    on_progress: Progress,
    *,
    window: int,
    prices: Prices,
    judgement: Judgement | None = None,
    on_false_hit: OnFalseHit | None = None,
) -> list[Window]:
    """Replay through the real decision path; `clock` is the one that the stage was opened with."""
    # Of an entry stored under a question, the answer that this question wanted.
    stored: dict[Asked, str] = {}
    noise = random.Random("near misses" if judgement is None else f"near {judgement.seed}")

    def tell_near_miss(row: StreamRow, reply: Reply) -> None:
        near, risk = reply.lookup.near, reply.lookup.near_risk
        if near is None or risk is None or judgement is None or judgement.on_near_miss is None:
            return
        wrong = stored[stage.stored[near.held.id]] != row.answer_id
        judged_wrong = wrong != (noise.random() < judgement.noise)
        judgement.on_near_miss(reply.call.category, risk, judged_wrong)

    async def respond(row: StreamRow) -> Answered | None:
        clock.advance(row)
        reply = await stage.ask(row.question)
        if reply.hit:
            known = stage.question(reply)
            category, risk = reply.call.category, risk_of(reply)
            return Answered(stored[known], known, reply.exact, category, risk)
        tell_near_miss(row, reply)
        if await stage.keep(row.question, reply):
            stored[row.question] = row.answer_id
        return None

    await stage.prepare(text for row in rows for text in row.question.user_texts)
    return await replay(
        rows,
        respond,
        on_progress,
        window=window,
        prices=prices,
        judgement=judgement,
        on_false_hit=on_false_hit,
    )


def risk_of(reply: Reply) -> float:
    """Return the probability, as estimated when it was served, that a hit is wrong."""
    assert reply.lookup.found is not None
    return reply.lookup.found.doubt
