"""What selection and routing add to a request: two Nearhits before the same instant upstream.

Both hold 10,000 stored answers and are asked the same new questions, each one's nearest neighbours
known. One has no small model, so that every near-hit goes on at once; the other one selects
examples, routes and asks the small model, which is the same upstream. The difference of the medians
is what that adds, the longer body included.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import yaml

from bench.fake_upstream import CHAT
from bench.nearhits.record import Record, Result
from bench.nearhits.scoring import mean_of
from bench.nearhits.stand import BASE_CATEGORY
from bench.processes import Server, python_server, running
from bench.questions import rewordings, stored_question, subjects
from bench.stand import MODEL, StandFailed, chat_body, fill, running_nearhit, say

STORED = 10_000
ROUNDS = {True: 3, False: 5}  # by whether it is quick
ASKED = 200  # questions a round and Nearhit
MOST = 1.5  # ms that may be added
SETTLE = 30.0  # seconds after a start, in which documents and examples are brought into memory
SMALL = "small"


def write_config(folder: Path, upstream: str, *, offload: bool) -> Path:
    """Write the configuration of a Nearhit with or without a small model."""
    folder.mkdir(parents=True, exist_ok=True)
    policies = {"categories": [{"name": "default", **BASE_CATEGORY}]}
    (folder / "policies.yaml").write_text(yaml.safe_dump(policies))
    settings: dict[str, Any] = {
        "data_dir": str(folder / "data"),
        "upstreams": [{"name": "fake", "base_url": f"{upstream}/v1", "models": ["*"]}],
        "policies": str(folder / "policies.yaml"),
        "lookup_gate": False,
    }
    if offload:
        settings["offload"] = [{"model": MODEL, "small": SMALL}]
    path = folder / "nearhit.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


async def timed(
    session: aiohttp.ClientSession, nearhit: Server, questions: Sequence[str]
) -> tuple[list[float], int]:
    """Return each question's time in ms, one after the other, and how many were near-hits."""
    times: list[float] = []
    near_hits = 0
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    for question in questions:
        body = chat_body(question).encode()
        started = time.perf_counter()
        async with session.post(nearhit.origin + CHAT, data=body, headers=headers) as answer:
            await answer.read()
        times.append(1e3 * (time.perf_counter() - started))
        status = answer.headers.get("cache-status", "")
        if answer.status != 200 or "; hit" in status:
            raise StandFailed(f"a new question was answered {answer.status}, {status!r}")
        near_hits += "detail=near-hit" in status
    return times, near_hits


async def compare(rounds: int) -> Result:
    """Return the medians of every round, in ms."""
    with tempfile.TemporaryDirectory(prefix="nearhit-bench-") as name:
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(
                running("fake upstream", python_server("bench.fake_upstream"))
            )
            session = await stack.enter_async_context(aiohttp.ClientSession())
            configs = {
                arm: write_config(Path(name) / arm, upstream.origin, offload=arm == "with")
                for arm in ("without", "with")
            }
            async with running_nearhit(configs["without"]) as filled:
                say(f"latency: filling {STORED} questions")
                await fill(filled, [stored_question(subject) for subject in subjects()[:STORED]])
            shutil.copytree(Path(name) / "without" / "data", Path(name) / "with" / "data")
            nearhits = {
                arm: await stack.enter_async_context(running_nearhit(config))
                for arm, config in configs.items()
            }
            await asyncio.sleep(SETTLE)
            return await _rounds(session, nearhits, rounds)


async def _rounds(
    session: aiohttp.ClientSession, nearhits: Mapping[str, Server], rounds: int
) -> Result:
    supply = iter(rewordings(subjects()))
    medians: dict[str, list[float]] = {arm: [] for arm in nearhits}
    near_hits = 0
    for number in range(rounds + 1):
        questions = [next(supply) for _ in range(ASKED)]
        for arm, nearhit in nearhits.items():
            times, found = await timed(session, nearhit, questions)
            if number:  # the first is to warm up
                medians[arm].append(median(times))
                near_hits += found
        say(f"latency: round {number} of {rounds}")
    return {"medians": medians, "near_hits": near_hits, "asked": rounds * ASKED}


async def measure(record: Record, quick: bool) -> str:
    """Measure what is not measured yet; return the table."""
    rounds = ROUNDS[quick]
    arguments = {"stored": STORED, "rounds": rounds, "asked": ASKED, "settle": SETTLE}
    found = await record.measured("latency", arguments, lambda: compare(rounds))
    without, routed = found["medians"]["without"], found["medians"]["with"]
    added = mean_of([b - a for a, b in zip(without, routed, strict=True)])
    return (
        "| p50 without a small model, ms | with it | added, mean of rounds | at most |"
        " near-hits |\n"
        "| --- | --- | --- | --- | --- |\n"
        f"| {median(without):.2f} | {median(routed):.2f} | {added.mean:.2f}"
        f" [{added.low:.2f}, {added.high:.2f}] | {MOST} | {found['near_hits']} of"
        f" {found['asked']} |"
    )
