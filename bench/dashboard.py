"""Exact hits with the dashboard open beside none: latency, in pairs of windows.

    python -m bench.dashboard [--pairs 7] [--seconds 10] [--rate 200]

A real proxy process and a real Chromium that shows the overview, which renews itself every two
seconds. Exact hits are asked at a steady rate (an open loop: a request is due whether or not the
one before was answered) in windows with the page open and with it closed, in turns. The browser
would be on somebody else's machine: here it has the same cores, so it runs when they are idle
(SCHED_IDLE). What it takes all the same is counted against the proxy. Results go to
bench/results/dashboard.json, with how loaded the machine was by others.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import numpy as np
import orjson
import yaml
from playwright.async_api import Browser, async_playwright

from bench.fake_upstream import CHAT
from bench.processes import Server, nearhit_server, python_server, running
from bench.questions import stored_question, subjects
from bench.report import RESULTS, describe_machine
from bench.stand import (
    EXACT_HIT,
    READY_LIMIT,
    StandFailed,
    ask,
    bench_categories,
    chat_body,
    fill,
    say,
)

BOUND = 1.5  # times the p99 with the page closed
PAGE = "/admin"
LIVE = "/admin/overview/live"
LIVE_EVERY = 2.0  # seconds between two looks of the page
REST = 1.0  # seconds between two windows
CHROMIUM = "/usr/bin/chromium"
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


@dataclass
class Window:
    """What was asked in one window: milliseconds, answers that were no exact hit, looks."""

    exact: list[float] = field(default_factory=list)
    odd: Counter[str] = field(default_factory=Counter)
    looks: int = 0  # answers that the page renewed itself with

    def at(self, percentile: float) -> float:
        """Return a percentile in milliseconds."""
        return float(np.percentile(self.exact, percentile))


class Load:
    """Asks stored questions again, at a steady rate."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        server: Server,
        questions: Sequence[str],
        rate: float,
    ) -> None:
        """`rate` is in requests a second."""
        self._session = session
        self._url = server.origin + CHAT
        self._questions = questions
        self._rate = rate
        self._random = random.Random(5)

    async def window(self, seconds: float) -> Window:
        """Ask for so long; return once all is answered."""
        seen, tasks = Window(), set[asyncio.Task[None]]()
        began = due = time.perf_counter()
        while due - began < seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._ask(seen, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += self._random.expovariate(self._rate)
        await asyncio.gather(*tasks)
        return seen

    async def _ask(self, seen: Window, due: float) -> None:
        outcome = await ask(
            self._session, self._url, chat_body(self._random.choice(self._questions))
        )
        seen.exact.append(1000 * (time.perf_counter() - due))
        if outcome != EXACT_HIT:
            seen.odd[outcome] += 1


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    """Run a Chromium that gives way to everything else.

    A nice value would not do: as root it sets those of its processes itself, and better ones.
    """
    program = folder / "chromium"
    program.write_text(f'#!/bin/sh\nexec chrt --idle 0 {shlex.quote(CHROMIUM)} "$@"\n')
    program.chmod(0o700)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        async with browser:
            yield browser


@asynccontextmanager
async def page_open(browser: Browser, server: Server, seen: Counter[str]) -> AsyncIterator[None]:
    """Show the overview while entered; `seen` counts what its live part was answered."""
    async with await browser.new_context(base_url=server.origin) as context:
        page = await context.new_page()
        page.on(
            "response",
            lambda answer: seen.update([str(answer.status)] if LIVE in answer.url else []),
        )
        await page.goto(PAGE)
        async with page.expect_response(f"**{LIVE}*"):
            pass
        seen.clear()
        yield


async def measured(
    load: Load, browser: Browser, server: Server, plan: argparse.Namespace
) -> dict[str, Any]:
    """Ask in pairs of windows, the page open in one of each."""
    pairs, windows, looks = list[dict[str, Any]](), list[Window](), Counter[str]()
    await load.window(plan.seconds / 2)  # everything is warm from here on
    for number in range(plan.pairs):
        found: dict[str, Window] = {}
        for kind in ("closed", "open") if number % 2 == 0 else ("open", "closed"):
            if kind == "open":
                async with page_open(browser, server, looks):
                    found[kind] = await load.window(plan.seconds)
                    found[kind].looks = looks["200"]
            else:
                found[kind] = await load.window(plan.seconds)
            await asyncio.sleep(REST)
        if found["open"].looks < plan.seconds / LIVE_EVERY / 2:
            raise StandFailed(f"the page renewed itself {dict(looks)} times in {plan.seconds:g} s")
        pairs.append(
            {kind: {"p50": w.at(50), "p99": w.at(99)} for kind, w in found.items()}
            | {"looks": found["open"].looks, "load": os.getloadavg()[0]}
        )
        windows += found.values()
        say(f"pair {number + 1}: {pairs[-1]}")
    return {
        "ratio": ratio_of(pairs),
        "bound": BOUND,
        "pairs": pairs,
        "requests": sum(len(window.exact) for window in windows),
        "odd": dict(sum((window.odd for window in windows), Counter[str]())),
    }


def ratio_of(pairs: Sequence[dict[str, Any]]) -> float:
    """Return the median over pairs of p99 with the page open over p99 with it closed."""
    return float(median(pair["open"]["p99"] / pair["closed"]["p99"] for pair in pairs))


def failures(found: dict[str, Any]) -> list[str]:
    """Return what is not as it should be."""
    said = []
    if found["ratio"] > found["bound"]:
        said.append(f"p99 is {found['ratio']:.2f} times that with the page closed")
    if found["odd"]:
        said.append(f"not every answer was an exact hit: {found['odd']}")
    return said


def write_config(folder: Path, upstream: Server) -> Path:
    """Write the configuration: defaults in everything that costs time, the dashboard among it."""
    (folder / "policies.yaml").write_text(yaml.safe_dump({"categories": bench_categories()}))
    config = {
        "data_dir": str(folder / "data"),
        "upstreams": [{"name": "fake", "base_url": f"{upstream.origin}/v1", "models": ["*"]}],
        "policies": str(folder / "policies.yaml"),
    }
    path = folder / "nearhit.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


async def run(plan: argparse.Namespace) -> dict[str, Any]:
    """Build the stand, measure, take it down."""
    questions = [stored_question(subject) for subject in subjects()[: plan.questions]]
    with tempfile.TemporaryDirectory(prefix="nearhit-bench-") as name:
        folder = Path(name)
        async with running("upstream", python_server("bench.fake_upstream")) as fake:
            command = nearhit_server(write_config(folder, fake))
            async with (
                running("nearhit", command, "/ready", READY_LIMIT) as server,
                aiohttp.ClientSession() as session,
                chromium(folder) as browser,
            ):
                say(f"filling: {len(questions)} questions, through the proxy")
                await fill(server, questions)
                load = Load(session, server, questions, plan.rate)
                return await measured(load, browser, server, plan)


def main() -> int:
    """Measure and write down; return 1 when the bound is missed."""
    parser = argparse.ArgumentParser(description="exact hits with the dashboard open")
    parser.add_argument("--questions", type=int, default=1_000, help="that are stored")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0, help="of one window")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--results", type=Path, default=RESULTS / "dashboard.json")
    plan = parser.parse_args()
    machine, began = describe_machine(), time.monotonic()
    found = asyncio.run(run(plan))
    missed = failures(found)
    record = {
        "machine": asdict(machine),
        "requests a second": plan.rate,
        "load of the machine at the end": os.getloadavg()[0],
        "seconds": time.monotonic() - began,
        "missed": missed,
        **found,
    }
    plan.results.parent.mkdir(parents=True, exist_ok=True)
    plan.results.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    print(
        f"p99 with the dashboard open beside closed, median of {plan.pairs}: {found['ratio']:.2f}"
    )
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
