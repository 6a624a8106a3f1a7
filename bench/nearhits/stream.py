"""The stream through a running Nearhit: overload in the middle, a spoilt small model at two thirds.

The small model is real; the large one is the oracle with a few places. Whether a near-hit was right
Nearhit learns as it would in production: by having a part of them answered by the large model too
(`offload: on`, `answer_format: exact`), which takes the large model's places.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp

from bench.nearhits.models import BARE_TOKENS, ask, ask_each, small_models, turns
from bench.nearhits.neighbours import Encoded, nearest
from bench.nearhits.record import Record, Result
from bench.nearhits.scoring import exact, lenient
from bench.nearhits.stand import LARGE_MODEL, Ground, fill, open_ground, running_oracle
from bench.nearhits.stream_account import Alone, Served, summary, table
from bench.nearhits.stream_plan import Ask, Phases, compose, phases
from bench.nearhits.tasks import Item, Split
from bench.processes import Server, python_server, running
from bench.stand import say
from proxy.demo_fleet import LARGE

SMALL_MODEL = LARGE.name  # the faster of the two after examples: its prompts are read quickly
PLACES, SERVICE_MS = 2, 2500.0
CAPACITY = PLACES / SERVICE_MS * 1000  # answers of the large model a second
FLOOR = 0.7  # of the category's quality: these models reach about 0.83 after examples
JUDGE = {"model": "judge", "max_cost_per_hour": 1000.0}
# One call at work and two that wait: more would only queue in an engine of one thread.
# Three examples: five take 1.4 times as long to read, and an engine of one thread is the bound.
PAIRING = {"busy": PLACES, "small_busy": 3, "cascade": True, "max_examples": 3}
OFFLOADS = re.compile(r'nearhit_offloads_total\{arm="(\w+)",category="\w+",outcome="(\w+)"\} (\S+)')
CATEGORY = {"offload": "on", "quality_floor": FLOOR, "exploration": 0.02}


class Live:
    """One run of the stream."""

    def __init__(self, ground: Ground, spoiler: Server, plan: Phases) -> None:
        self._ground = ground
        self._spoiler = spoiler
        self._plan = plan
        self._served: list[Served] = []
        self._started = 0.0

    async def go(self, asks: Sequence[Ask]) -> list[Served]:
        """Send every request at its time, answered or not; return what came, in order."""
        self._started = time.perf_counter()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with asyncio.TaskGroup() as asking:
                for index, each in enumerate(asks):
                    await asyncio.sleep(max(0.0, each.at - self._now()))
                    if index == self._plan.spoilt:
                        await self._spoil(session)
                    if index % 50 == 0:
                        say(f"stream: request {index} of {len(asks)}, {self._standing()}")
                    asking.create_task(self._send(session, index, each.item))
        return sorted(self._served, key=lambda served: served.index)

    def _now(self) -> float:
        return time.perf_counter() - self._started

    def _standing(self) -> str:
        last = self._served[-50:]
        near, right = sum(e.near_hit for e in last), sum(e.right for e in last)
        return f"of the last {len(last)} answers {near} near-hits, {right} right"

    async def _spoil(self, session: aiohttp.ClientSession) -> None:
        async with session.post(self._spoiler.origin + "/spoilt", data=b"true") as answer:
            answer.raise_for_status()
        say("stream: from now on the small model's answers are spoilt")

    async def _send(self, session: aiohttp.ClientSession, index: int, item: Item) -> None:
        sent = self._now()
        # What the large model answers is stored, as in production; no question comes twice.
        reply = await ask(session, self._ground.proxy, LARGE_MODEL, turns(item.question))
        self._served.append(
            Served(
                index=index,
                task=item.task,
                sent=sent,
                ended=self._now(),
                right=exact(item, reply.text),
                near_hit=reply.near_hit,
            )
        )


async def ours(base_url: str, asks: Sequence[Ask], split: Split, plan: Phases) -> Result:
    """Run the stream through Nearhit."""
    known = (*(each.item for each in asks), *split.stored)
    pace = ("--places", str(PLACES), "--service-ms", str(SERVICE_MS))
    spoiling = python_server("bench.nearhits.degrading", "--upstream", base_url)
    with tempfile.TemporaryDirectory(prefix="nearhit-bench-") as folder:
        async with (
            running("the small model's spoiler", spoiling) as spoiler,
            running_oracle(Path(folder), known, *pace) as oracle,
            open_ground(
                Path(folder),
                oracle,
                (SMALL_MODEL, spoiler.origin + "/v1"),
                category=CATEGORY,
                pairing=PAIRING,
                extra={"judge": JUDGE},
            ) as ground,
        ):
            await _slow_down(ground, 0.001)  # filling is not what is measured
            await fill(ground, split.stored)
            await _slow_down(ground, 1.0)
            served = await Live(ground, spoiler, plan).go(asks)
            outcomes = await _offloads(ground)
    return {"served": [asdict(each) for each in served], "offloads": outcomes}


async def _offloads(ground: Ground) -> dict[str, int]:
    """Return what came of near-hits, by arm and outcome, as the proxy counts it."""
    url = ground.nearhit.origin + "/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        told = await answer.text()
    return {f"{arm} {outcome}": int(float(n)) for arm, outcome, n in OFFLOADS.findall(told)}


async def _slow_down(ground: Ground, by: float) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(ground.oracle.origin + "/service", json={"slowdown": by}) as answer,
    ):
        answer.raise_for_status()


async def alone(
    base_url: str, asks: Sequence[Ask], split: Split, sample: int, encoded: Encoded
) -> Result:
    """Ask the small model directly every n-th question of the stream, with examples and without."""
    items = [each.item for each in asks[:: max(1, len(asks) // sample)]]
    vectors = await encoded([item.question for item in (*items, *split.stored)])
    near = nearest(vectors[: len(items)], vectors[len(items) :], split.stored)
    top = (vectors[: len(items)] @ vectors[len(items) :].T).max(axis=1)
    bare = await ask_each(
        base_url,
        SMALL_MODEL,
        [turns(item.question) for item in items],
        "stream: always small",
        most=BARE_TOKENS,
    )
    shown = [turns(item.question, some) for item, some in zip(items, near, strict=True)]
    plain = await ask_each(base_url, SMALL_MODEL, shown, "stream: plain examples")
    rows = [
        Alone(
            similarity=float(similarity),
            bare=lenient(item, one.text),
            plain=exact(item, other.text),
            seconds=other.seconds,
        )
        for item, similarity, one, other in zip(items, top, bare, plain, strict=True)
    ]
    return {"alone": [asdict(row) for row in rows]}


async def measure(record: Record, split: Split, requests: int, seed: int, encoded: Encoded) -> str:
    """Measure what is not measured yet; return the table."""
    plan = phases(requests, CAPACITY)
    asks = compose(split, plan, seed)
    arguments: dict[str, Any] = {"seed": seed, **asdict(plan), "stored": len(split.stored)}
    async with small_models() as smalls:
        base_url = smalls[SMALL_MODEL]
        sample = max(100, requests // 10)
        direct = await record.measured(
            "stream/alone", {**arguments, "sample": sample},
            lambda: alone(base_url, asks, split, sample, encoded),
        )  # fmt: skip
        live = await record.measured(
            "stream/ours",
            {**arguments, **CATEGORY, **PAIRING},
            lambda: ours(base_url, asks, split, plan),
        )
    rows = [Alone(**row) for row in direct["alone"]]
    served = [Served(**row) for row in live["served"]]
    counted = ", ".join(f"{what} {count}" for what, count in sorted(live["offloads"].items()))
    return (
        f"{table(summary(served, rows, plan, seed), rows, CAPACITY)}\n\nWhat came of it: {counted}."
    )
