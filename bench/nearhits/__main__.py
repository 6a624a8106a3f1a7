"""`python -m bench.nearhits --data DIR [--quick | --full]`: everything about near-hits, measured.

What was measured before with the same arguments is not measured again: interrupt it at will.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.nearhits import examples_help, latency, orders, replaying, stream
from bench.nearhits.neighbours import Encoded
from bench.nearhits.record import Record
from bench.nearhits.tasks import read_items, split
from bench.processes import ServerFailed
from bench.report import RESULTS, describe_machine
from bench.stand import StandFailed, say
from proxy.demo_fleet import DemoFleetFailed

SECTIONS = ("examples", "orders", "stream", "latency", "replay")
ARMS = examples_help.ARMS


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure, and with how much."""

    data: Path
    each: int  # questions of a task
    requests: int  # of the stream
    quick: bool
    seed: int
    sections: tuple[str, ...]
    arms: tuple[str, ...]
    results: Path


def read_plan(arguments: Sequence[str]) -> Plan:
    """Read the command line; exits with status 2 when it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.nearhits", description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("NEARHIT_DATA"))
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="25 questions a task, 300 requests")
    how.add_argument("--full", action="store_true", help="60 questions a task, 3,000 requests")
    parser.add_argument("--each", type=int, help="questions of a task")
    parser.add_argument("--requests", type=int, help="of the stream")
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--arms", default=",".join(ARMS), help="of the examples")
    parser.add_argument("--results", type=Path, help="where to keep the results")
    given = parser.parse_args(arguments)
    if given.data is None:
        parser.error("--data (or NEARHIT_DATA) must name the folder of the public sets")
    sections, arms = tuple(given.only.split(",")), tuple(given.arms.split(","))
    if not set(sections) <= set(SECTIONS):
        parser.error(f"--only: {given.only!r} is not allowed; allowed: {','.join(SECTIONS)}")
    if not set(arms) <= set(ARMS):
        parser.error(f"--arms: {given.arms!r} is not allowed; allowed: {','.join(ARMS)}")
    name = "nearhits.json" if given.full else "nearhits-quick.json.tmp"
    return Plan(
        data=given.data,
        each=given.each or (60 if given.full else 25),
        requests=given.requests or (3000 if given.full else 300),
        quick=not given.full,
        seed=given.seed,
        sections=sections,
        arms=arms,
        results=given.results or RESULTS / name,
    )


def show(title: str, table: str) -> None:
    """Print one section."""
    print(f"### {title}\n\n{table}\n", flush=True)


async def main(plan: Plan) -> int:
    """Measure what is not measured yet, print all of it."""
    machine = describe_machine()
    record = Record(plan.results, machine)
    print(
        f"{machine.date}, {machine.cores} cores of {machine.processor}, {machine.memory_gib} GiB,"
        f" Python {machine.python}, commit {machine.commit}, seed {plan.seed}."
        " In brackets: 95 % bootstrap intervals.\n"
    )
    try:
        items = read_items(plan.data)
        encoded = Encoded()
        parts, whole = split(items, plan.each, plan.seed), split(items, len(items), plan.seed)
        if "examples" in plan.sections:
            results = await examples_help.measure(record, parts, plan.seed, encoded, plan.arms)
            show("Examples help", examples_help.table(results, plan.seed))
        if "orders" in plan.sections:
            text = await orders.measure(record, parts, plan.seed, encoded)
            show("The order of examples", text)
        if "stream" in plan.sections:
            text = await stream.measure(record, whole, plan.requests, plan.seed, encoded)
            show("A stream with an overload", text)
        if "latency" in plan.sections:
            show("Time on the request path", await latency.measure(record, plan.quick))
        if "replay" in plan.sections:
            show(
                "Replaying poor examples",
                await replaying.measure(record, whole, plan.each, plan.seed),
            )
    except (StandFailed, ServerFailed, DemoFleetFailed, OSError, ValueError) as failed:
        say(f"the benchmark cannot go on: {failed}")
        return 1
    say(f"results in {plan.results}")
    return 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main(read_plan(sys.argv[1:]))))
