"""Lookups in a full cache of 10 categories, idle and while entries come and go, in one process.

    python -m bench.churn [--entries 100000] [--pairs 7] [--admissions 300] [--lookups 200]

A real `Cache` over a real `PartitionedIndex` and `SqliteDocuments` is filled with synthetic entries
(`bench.population`) to its capacity. Then each pair measures the same lookups, with the same times
between them, idle and under churn, in turns about which comes first. A lookup's time runs from when
another process sent it (`bench.pacer`) to its end, so it holds whatever the event loop does before.
Each admission is a task of its own and has somebody evicted; they come as often as the bundled
encoder could feed them on two cores (its best batches: 233 to 285 texts a second). No encoder runs
beside it, and nothing is frozen for the garbage collector, as in a process that has run for days.

After every admission `bench.bounds` checks what is held. In the end one category, which holds a
tenth of its quota while the others have the rest on loan, asks for its room at the same rate.
Ends with status 1 when a row fails or does not count.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy, as proxy/__init__.py serves

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench import report
from bench.bounds import BYTES, ENTRIES, Watch, total
from bench.full_cache import FullCache, Load, Plan, open_full_cache
from bench.population import QUIET
from bench.verdicts import Outcome, Reading, Row, at_most, settle

FEWEST_PAIRS = 7
LEAST_RATE = 0.95  # of the admissions asked for; below, the pair does not count


def compare(idle: Load, busy: Load, watch: Watch, plan: Plan) -> Reading:
    """Return the p99 under churn over the idle p99, in ms."""
    rate = busy.admitted / busy.seconds if busy.seconds else 0.0
    faults = [f"{count} admissions: {outcome}" for outcome, count in busy.refused.items()]
    if rate < LEAST_RATE * plan.admissions:
        faults.append(f"{rate:.0f} admissions a second instead of {plan.admissions:.0f}")
    wanted = int(plan.lookups * plan.seconds)
    for name, load in (("idle", idle), ("busy", busy)):
        if len(load.times) != wanted:
            faults.append(f"{name}: {len(load.times)} lookups ended of {wanted}")
    parts = {
        "idle p50 ms": idle.percentile(50),
        "idle p99 ms": idle.percentile(99),
        "busy p50 ms": busy.percentile(50),
        "busy p99 ms": busy.percentile(99),
        "idle longest ms": max(idle.times),
        "busy longest ms": max(busy.times),
        "admissions per s": rate,
        "found in memory %": 100 * busy.places["memory"] / len(busy.times),
        "found on disk %": 100 * busy.places["disk"] / len(busy.times),
        "longest collection ms": max([0.0, *idle.pauses, *busy.pauses]),
        "idle: others' CPU %": idle.others,
        "busy: others' CPU %": busy.others,
        "idle: own CPU %": idle.own,
        "busy: own CPU %": busy.own,
        "entries held": total(watch.held.values())[ENTRIES],
    }
    return Reading(
        value=parts["busy p99 ms"] - parts["idle p99 ms"], parts=parts, faults=tuple(faults)
    )


async def measure_pair(full: FullCache, plan: Plan, number: int) -> Reading:
    """Measure idle and busy with the same lookups; odd pairs begin idle."""
    wordings = full.wordings(int(plan.lookups * plan.seconds), seed=number)
    halves = {
        busy: await full.measure(wordings, number, busy=busy)
        for busy in ((False, True) if number % 2 else (True, False))
    }
    reading = compare(halves[False], halves[True], full.watch, plan)
    say(f"pair {number} of {plan.pairs}: {reading.value:+.2f} ms; {'; '.join(reading.faults)}")
    return reading


def watched(watch: Watch) -> list[Outcome]:
    """Return the rows about what was held after every admission."""
    parts = {"admissions": watch.admissions, "that evicted": watch.evicting}
    entries = Row("capacity", "most entries ever held beyond the capacity", "entries", at_most(1))
    size = Row("bytes", "most bytes ever held beyond the capacity", "bytes", at_most(0))
    rules = Row("quotas", "admissions after which a rule about quotas was broken", "", at_most(0))
    broken = tuple(dict.fromkeys(watch.broken))[:5]
    return [
        settle(row, [Reading(value=value, parts=more)])
        for row, value, more in (
            (entries, watch.over[ENTRIES], {"capacity": watch.capacity[ENTRIES]}),
            (size, watch.over[BYTES], {"capacity": watch.capacity[BYTES]}),
        )
    ] + [settle(rules, [Reading(value=len(watch.broken), parts=parts, faults=broken)])]


async def measure_reclaim(full: FullCache) -> Outcome:
    """Let the quiet category ask for its room; the value is how often it asks for an entry's.

    It stops when its quota is used up; a few admissions are under way by then and get no more.
    What others have on loan after that is room that still others leave idle.
    """
    lent = sum(full.watch.beyond(ENTRIES).values())
    held = full.watch.held[QUIET][ENTRIES]
    load = await full.reclaim()
    got = full.watch.held[QUIET][ENTRIES] - held
    parts = {
        "on loan before": lent,
        "taken back": got,
        "on loan after": sum(full.watch.beyond(ENTRIES).values()),
        "admissions": load.admitted,
        "seconds": load.seconds,
    }
    row = Row("reclaim", "a category takes its room back: admissions per entry", "x", at_most(1.01))
    faults = tuple(f"{count} admissions: {outcome}" for outcome, count in load.refused.items())
    return settle(row, [Reading(value=load.admitted / max(got, 1), parts=parts, faults=faults)])


async def measure(plan: Plan) -> list[Outcome]:
    """Fill, measure the pairs, take the room back; return the rows."""
    row = Row(
        "churn", f"lookup among {plan.entries:,} entries under churn: p99 over idle", "ms",
        at_most(3.0),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="nearhit-bench-") as folder:
        started = time.monotonic()
        async with open_full_cache(plan, Path(folder)) as full:
            say(f"full after {time.monotonic() - started:.0f} s")
            readings = [await measure_pair(full, plan, n) for n in range(1, plan.pairs + 1)]
            reclaimed = await measure_reclaim(full)
            return [settle(row, readings), *watched(full.watch), reclaimed, collection()]


def collection() -> Outcome:
    """Return how long a full collection of garbage stops the process now."""
    started = time.perf_counter()
    gc.collect()
    elapsed = (time.perf_counter() - started) * 1e3
    row = Row("collection", "a full collection of garbage, with nothing frozen", "ms")
    return settle(row, [Reading(value=elapsed, parts={"objects": len(gc.get_objects())})])


def pairs_table(outcome: Outcome) -> str:
    """Return every pair's numbers as markdown."""
    shown = ("idle p50 ms", "idle p99 ms", "busy p50 ms", "busy p99 ms")
    rest = ("idle longest ms", "busy longest ms", "admissions per s",
            "idle: others' CPU %", "busy: others' CPU %")  # fmt: skip
    lines = [
        f"| pair | {' | '.join(shown)} | difference of p99 ms | {' | '.join(rest)} |",
        "| --- " * (len(shown) + len(rest) + 2) + "|",
    ]
    rows = [(str(n), r.parts, r.value) for n, r in enumerate(outcome.readings, 1)]
    for name, parts, value in (*rows, ("median", outcome.parts, outcome.value)):
        cells = [f"{parts[part]:.2f}" for part in shown] + [f"{value:+.2f}"]
        cells += [f"{parts[part]:.0f}" for part in rest]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def read_plan(arguments: Sequence[str]) -> tuple[Plan, Path]:
    """Read the command line; exits with status 2 when it is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=FEWEST_PAIRS, help="the median counts")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one half of a pair")
    parser.add_argument("--lookups", type=float, default=200.0, help="a second")
    parser.add_argument("--admissions", type=float, default=300.0, help="a second")
    parser.add_argument("--results", type=Path, default=report.RESULTS / "churn.json")
    given = vars(parser.parse_args(arguments))
    results = given.pop("results")
    return Plan(**given), results


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; return the exit status."""
    plan, results = read_plan(arguments)
    machine = report.describe_machine()
    outcomes = uvloop.run(measure(plan))
    print(report.markdown(machine, outcomes))
    print(f"\n{pairs_table(outcomes[0])}")
    report.write_results(results, machine, plan.pairs < FEWEST_PAIRS, outcomes)
    return int(any(outcome.verdict in ("fail", "invalid") for outcome in outcomes))


def say(text: str) -> None:
    """Tell a waiting person where it stands."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
