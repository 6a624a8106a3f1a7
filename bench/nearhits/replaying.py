"""What replaying poor examples is worth: wrong answers planted, `nearhit replay`, asked again.

The store is filled while the oracle gives other questions' answers. Then it is right again. Near-
hits are served and judged for a while, which shows the examples to be poor; fresh questions are
asked before `nearhit replay` and after it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from bench.nearhits.models import ask_each, small_models, turns
from bench.nearhits.record import Record, Result
from bench.nearhits.scoring import exact, gain_of, mean_of
from bench.nearhits.stand import ASK_ONLY, LARGE_MODEL, Ground, fill, open_ground, running_oracle
from bench.nearhits.stream import JUDGE, SMALL_MODEL
from bench.nearhits.tasks import CHOSEN, GENERATED, Item, Split
from bench.processes import Server
from bench.stand import StandFailed, say

POOR = 200
TASKS = (*GENERATED, *CHOSEN)
# Everything is tried and judged: this is about the examples, not about the router.
CATEGORY = {"offload": "on", "quality_floor": 0.0, "exploration": 0.5}
ASKED_AGAIN = 61.0  # seconds in which a question that comes again means a bad answer
REPLAY_LIMIT = 600.0  # seconds


def poor_examples(split: Split, most: int = POOR) -> list[Item]:
    """Return the stored items whose answers are planted wrong, of every task as many."""
    each = most // len(TASKS)
    of = {task: [item for item in split.stored if item.task == task] for task in TASKS}
    chosen = [item for task in TASKS for item in of[task][:each]]
    rest = [item for task in reversed(TASKS) for item in of[task][each:]]
    return chosen + rest[: most - len(chosen)]


def questions(split: Split, each: int) -> tuple[list[Item], list[Item]]:
    """Return `each` fresh questions a task, and up to twice as many others that teach."""
    of = {task: split.of(task) for task in TASKS}
    fresh = [item for task in TASKS for item in of[task][:each]]
    return fresh, [item for task in TASKS for item in of[task][each : 3 * each]]


async def replayed(base_url: str, split: Split, each: int) -> Result:
    """Return what the fresh questions came to before and after, and what replaying cost."""
    stored = poor_examples(split)
    fresh, learning = questions(split, each)
    with tempfile.TemporaryDirectory(prefix="nearhit-bench-") as name:
        folder = Path(name)
        async with (
            running_oracle(folder, (*stored, *fresh, *learning)) as oracle,
            open_ground(
                folder,
                oracle,
                (SMALL_MODEL, base_url),
                category=CATEGORY,
                extra={"judge": JUDGE},
            ) as ground,
        ):
            await _wrong(ground.oracle, True)
            await fill(ground, stored)
            await _wrong(ground.oracle, False)
            await _right(ground, learning, "replay: served and judged")
            before = await _right(ground, fresh, "replay: before")
            calls = await _calls(ground.oracle)
            said = await _replay(folder / "nearhit.yaml", ground.nearhit)
            spent = await _calls(ground.oracle) - calls
            say(f"replay: waiting {ASKED_AGAIN:g} s, so that nothing counts as asked again")
            await asyncio.sleep(ASKED_AGAIN)
            after = await _right(ground, fresh, "replay: after")
    return {"before": before, "after": after, "said": said, "calls": spent, "stored": len(stored)}


async def _right(ground: Ground, items: Sequence[Item], what: str) -> list[dict[str, Any]]:
    """Ask through the proxy; what the large model answered is told apart."""
    chats = [turns(item.question) for item in items]
    replies = await ask_each(ground.proxy, LARGE_MODEL, chats, what, ASK_ONLY)
    return [
        {"task": item.task, "right": exact(item, reply.text), "near_hit": reply.near_hit}
        for item, reply in zip(items, replies, strict=True)
    ]


async def _wrong(oracle: Server, wrong: bool) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(oracle.origin + "/wrong", json=wrong) as answer,
    ):
        answer.raise_for_status()


async def _calls(oracle: Server) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(oracle.origin + "/calls") as answer,
    ):
        return sum((await answer.json()).values())


async def _replay(config: Path, nearhit: Server) -> str:
    """Run `nearhit replay` against the running server; return what it said."""
    program = str(Path(sys.executable).with_name("nearhit"))
    process = await asyncio.create_subprocess_exec(
        *(program, "replay", "--config", str(config), "--most", str(POOR), "--json"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "NEARHIT_SERVER__PORT": nearhit.origin.rpartition(":")[2]},
    )
    try:
        async with asyncio.timeout(REPLAY_LIMIT):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise StandFailed(f"nearhit replay ended with {process.returncode}")
    say(f"replay: {said.decode().strip()}")
    return said.decode().strip()


async def measure(record: Record, split: Split, each: int, seed: int) -> str:
    """Measure what is not measured yet; return the table."""
    arguments = {"seed": seed, "poor": POOR, "each": each, **CATEGORY}
    async with small_models() as smalls:
        found = await record.measured(
            "replay", arguments, lambda: replayed(smalls[SMALL_MODEL], split, each)
        )
    both = [
        (float(one["right"]), float(other["right"]))
        for one, other in zip(found["before"], found["after"], strict=True)
        if one["near_hit"] and other["near_hit"]
    ]
    before, after = [pair[0] for pair in both], [pair[1] for pair in both]
    return (
        "| poor examples | near-hits both times | right before, % | after | gain, points |"
        " calls it took | said |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        f"| {found['stored']} | {len(both)} of {len(found['before'])} |"
        f" {mean_of(before, seed).percent()} | {mean_of(after, seed).percent()} |"
        f" {gain_of(after, before, seed).percent()} | {found['calls']} | {found['said']} |"
    )
