"""What load adaptation does to an overloaded upstream, measured: a slowed upstream, a real Nearhit.

    python -m bench.overload --data "$NEARHIT_DATA"

A stream of paraphrases (bench/overload_stream.py) is sent at a fixed rate, whether answers come or
not, to `nearhit serve` before an upstream with a limited rate of service. After a calm phase the
upstream is slowed down until it serves less than what reaches it, later it is let go again. The
same stream, with the same seed, runs once without a `load` section and then with it: `threshold`
may only lower the threshold, `both` may stretch the TTL too. The slowdown is found in the first
arm, from the calls that reach the upstream in the second half of its calm phase, and is the same
in all arms of a stream.

Answers are their question's text, so that a wrong hit can be counted against the labels. TTLs are
a minute, so that expiry is part of a run of minutes: read them as a compressed day. Without
`--data` only the stream of our own is run. Prints tables, writes bench/results/overload.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import uvloop

from bench.overload_account import Arm, moves, table
from bench.overload_run import ARMS, BASE, CAPACITY, CEILING, FLOOR, TARGET_MS, Plan, run_arm
from bench.overload_stream import data_stream, own_stream
from bench.processes import ServerFailed
from bench.report import RESULTS, Machine, describe_machine
from bench.stand import StandFailed, say


def report(
    machine: Machine, plan: Plan, arms: Sequence[Arm], slowdowns: Mapping[str, float]
) -> str:
    """Return the run as markdown."""
    slowed = ", ".join(f"{name} {value:.2f} times" for name, value in slowdowns.items())
    lines = [
        f"{machine.date}, {machine.cores} cores of {machine.processor}, {machine.memory_gib} GiB,"
        f" Python {machine.python}, commit {machine.commit}. {plan.rate:g} requests/s, seed"
        f" {plan.seed}; calm {plan.calm:g} s, overload {plan.overload:g} s, after {plan.after:g} s;"
        f" the upstream serves {CAPACITY.rate:.1f} answers/s and is slowed down: {slowed}."
        f" Latency target {TARGET_MS:g} ms, floor {FLOOR}, ceiling {CEILING:g} s.",
        "",
        table(arms),
        "",
        *(moves(arm, BASE) for arm in arms),
        *(f"- INVALID: {arm.stream}, {arm.name}: {fault}" for arm in arms for fault in arm.faults),
    ]
    return "\n".join(lines)


_KEPT = 10


def write_results(
    path: Path, machine: Machine, plan: Plan, arms: Sequence[Arm], slowdowns: Mapping[str, float]
) -> None:
    """Write everything as JSON; of the samples, one a second, every tenth."""
    settings = {
        "capacity": asdict(CAPACITY),
        "base": asdict(BASE),
        "floor": FLOOR,
        "ceiling": CEILING,
        "target_ms": TARGET_MS,
        "slowdowns": slowdowns,
    }
    record = {
        "machine": asdict(machine),
        "plan": asdict(plan),
        "settings": settings,
        "arms": [asdict(replace(arm, samples=arm.samples[::_KEPT])) for arm in arms],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    unfinished.replace(path)


def read_command_line(arguments: Sequence[str] | None = None) -> tuple[Plan, Path | None, Path]:
    """Return the plan, the folder of the public sets if any, and where the results go."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("NEARHIT_DATA"))
    parser.add_argument("--arms", default=",".join(ARMS), help="of off, threshold, both")
    for name, what in (
        ("rate", "requests a second"),
        ("calm", "seconds before the overload"),
        ("overload", "seconds of it"),
        ("after", "seconds after it"),
        ("excess", "calls that arrive for each that the slowed upstream can serve"),
    ):
        parser.add_argument(f"--{name}", type=float, default=getattr(Plan(), name), help=what)
    parser.add_argument("--seed", type=int, default=Plan().seed)
    parser.add_argument("--results", type=Path, default=RESULTS / "overload.json")
    given = parser.parse_args(arguments)
    arms = tuple(given.arms.split(","))
    if not set(arms) <= set(ARMS) or len(set(arms)) < len(arms):
        parser.error(f"--arms: {given.arms!r} is not allowed; allowed: any of {','.join(ARMS)}")
    plan = Plan(
        rate=given.rate,
        calm=given.calm,
        overload=given.overload,
        after=given.after,
        excess=given.excess,
        seed=given.seed,
        arms=arms,
    )
    if min(plan.rate, plan.calm, plan.overload, plan.after, plan.excess) <= 0:
        parser.error("rate, times and excess must be above 0")
    return plan, given.data, given.results


async def main() -> int:
    """Run every arm of every stream, report; exit status 1 if any of it does not count."""
    plan, data, results = read_command_line()
    streams = [own_stream(seed=plan.seed, rate=plan.rate, seconds=plan.seconds)]
    if data is not None:
        streams.append(data_stream(data, seed=plan.seed, rate=plan.rate, seconds=plan.seconds))
    arms: list[Arm] = []
    slowdowns: dict[str, float] = {}
    try:
        for stream in streams:
            for name in plan.arms:
                known = slowdowns.get(stream.name)
                arm, slowdowns[stream.name] = await run_arm(plan, stream, name, known)
                arms.append(arm)
    except (StandFailed, ServerFailed) as failed:
        say(str(failed))
        return 2
    machine = describe_machine()
    write_results(results, machine, plan, arms, slowdowns)
    print(report(machine, plan, arms, slowdowns))
    return 1 if any(arm.faults for arm in arms) else 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
