"""The benchmark: floors and Nearhit in the same run, ratios against their targets.

`python -m bench.suite [--quick] [--only exact-16,start] [--repeat 3] [--peers] [--markdown]`.
Ends with status 1 when a row fails or does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
import uvloop

from bench import report, start
from bench.cases import CASES, Case
from bench.peers import measure_peers
from bench.processes import ServerFailed
from bench.stand import Base, Stand, StandFailed, fill_data, open_base, open_stand, say
from bench.verdicts import Outcome, Reading, Row, at_most, settle
from bench.wrk import WrkFailed
from proxy.encoder_settings import EncoderSettings
from proxy.encoders import open_encoder

START = "start"
PARTITIONS = Row(
    "partitions", "lookup in a partition of 20 among 200,000 entries: p50 over alone", "x",
    at_most(1.2),
)  # fmt: skip
NAMES = (START, *(case.row.name for case in CASES), PARTITIONS.name)
ON_FILLED = frozenset({START, "semantic-1", "semantic-32"})  # these need the 10,000 questions
PARTITIONS_LIMIT = 180.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run and how long."""

    names: frozenset[str]
    repeat: int
    seconds: int  # of one load
    quick: bool
    peers: bool
    markdown: bool
    results: Path


def read_plan(arguments: Sequence[str]) -> Plan:
    """Read the command line; exits with status 2 when it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.suite", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of short loads")
    parser.add_argument("--only", default=",".join(NAMES), help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--repeat", type=int, help="rounds, of which the median counts")
    parser.add_argument("--peers", action="store_true", help="other proxies too (installs them)")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--results", type=Path, help="where to write the JSON")
    given = parser.parse_args(arguments)
    names = frozenset(given.only.split(","))
    if unknown := names - set(NAMES):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    repeat = given.repeat if given.repeat is not None else (1 if given.quick else 3)
    if repeat < 1:
        parser.error(f"--repeat: {repeat} is not allowed; 1 or more")
    partial = given.quick or names != set(NAMES)
    return Plan(
        names=names,
        repeat=repeat,
        seconds=2 if given.quick else 4,
        quick=given.quick,
        peers=given.peers,
        markdown=given.markdown,
        # Only a whole run may replace the record.
        results=given.results or report.RESULTS / ("partial.json.tmp" if partial else "proxy.json"),
    )


async def run_suite(plan: Plan) -> list[Outcome]:
    """Run everything of the plan and return the rows in the table's order."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="nearhit-bench-") as folder:
        async with open_base(Path(folder)) as base:
            if plan.names & ON_FILLED:
                questions = await fill_data(base)
            if START in plan.names:
                outcomes += await _starts(base, questions, plan)
            outcomes = await _cases(base, plan) + outcomes
            peers = await measure_peers(base, plan.seconds) if plan.peers else []
    if PARTITIONS.name in plan.names:
        say("partitions: 200,000 entries beside a partition of 20")
        readings = [await _partitions() for _ in range(plan.repeat)]
        outcomes.append(settle(PARTITIONS, readings))
    return outcomes + peers


async def _starts(base: Base, questions: Sequence[str], plan: Plan) -> list[Outcome]:
    pairs = [await start.measure_start(base.config, questions) for _ in range(plan.repeat)]
    return [
        settle(start.READY, [ready for ready, _ in pairs]),
        settle(start.MEMORY, [memory for _, memory in pairs]),
    ]


async def _cases(base: Base, plan: Plan) -> list[Outcome]:
    """Measure every case once a round, so that what disturbs the machine meets all of them."""
    cases = [case for case in CASES if case.row.name in plan.names]
    if not cases:
        return []
    readings: dict[str, list[Reading]] = {case.row.name: [] for case in cases}
    async with aclosing(await open_encoder(EncoderSettings(), os.environ, say)) as encoder:
        async with open_stand(base, encoder, seconds=1) as stand:
            for case in cases:
                await measure_once(case, stand, "warm-up")
            stand.seconds = plan.seconds
            for number in range(1, plan.repeat + 1):
                for case in cases:
                    reading = await measure_once(case, stand, f"round {number} of {plan.repeat}")
                    readings[case.row.name].append(reading)
    return [settle(case.row, readings[case.row.name]) for case in cases]


async def measure_once(case: Case, stand: Stand, when: str) -> Reading:
    try:
        reading = await case.measure(stand)
    except (StandFailed, ServerFailed, WrkFailed, OSError, aiohttp.ClientError) as error:
        reading = Reading(value=math.nan, parts={}, faults=(f"{type(error).__name__}: {error}",))
    text = report.number_text(reading.value, case.row.unit)
    say(f"{when}: {case.row.name}: {text}{''.join(f'; {fault}' for fault in reading.faults)}")
    return reading


async def _partitions() -> Reading:
    """Run bench.partitions in a process of its own, for the memory it takes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.partitions"), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PARTITIONS_LIMIT):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        return Reading(value=math.nan, parts={}, faults=(f"ended with {process.returncode}",))
    return Reading(**orjson.loads(said))


async def main(plan: Plan) -> int:
    """Run, print, write; return the exit status."""
    started = time.monotonic()
    machine = report.describe_machine()
    try:
        outcomes = await run_suite(plan)
    except (StandFailed, ServerFailed, TimeoutError) as error:
        say(f"the benchmark cannot run: {error}")
        return 1
    print(report.markdown(machine, outcomes) if plan.markdown else report.table(outcomes))
    report.write_results(plan.results, machine, plan.quick, outcomes)
    say(f"{time.monotonic() - started:.0f} s; results in {plan.results}")
    return int(any(outcome.verdict in ("fail", "invalid") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(uvloop.run(main(read_plan(sys.argv[1:]))))
