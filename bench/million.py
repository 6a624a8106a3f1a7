"""Numbers of a million entries in one process: filling, memory, snapshot, restart, lookups.

    python -m bench.million [--entries 1000000] [--threads 2] [--seconds 20]

Synthetic vectors (`bench.population`), four fifths in one partition, the others in small ones of
10. What `store.cache` keeps of an entry is kept here too (`bench.million_books`), documents are
not. hnswlib alone is given the first 100,000 in a process of its own, and a restart has one, too.
The page cache is warm then: the snapshot was just written. Takes ten minutes and 6 GB at a million.
Ends with status 1 when a row fails or does not count.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy, as proxy/__init__.py serves

import argparse
import asyncio
import gc
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from bench import report
from bench.million_books import (
    CHUNK,
    LARGE,
    Books,
    bare_seconds,
    build,
    in_large,
    resident,
    restart,
)
from bench.pacer import arrivals
from bench.population import CHECKPOINT, DIMENSION, Floats, Population
from bench.verdicts import Outcome, Reading, Row, at_least, at_most, settle
from store import snapshot
from store.index import PartitionedIndex

FULL = 1_000_000
COMPARED = 100_000  # vectors that hnswlib is given alone, too
RAW = 4 * DIMENSION  # bytes
ALLOWED = 1.5 * RAW + 300  # bytes an entry
PUTS, LOOKUPS = 200.0, 100.0  # a second
SETTLING = 5.0  # seconds after the snapshot


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for on the command line."""

    entries: int
    threads: int
    seconds: float


class Lag:
    """The longest that the event loop was away, in seconds."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        """Look every 2 ms until cancelled."""
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.002)
            self.worst = max(self.worst, time.perf_counter() - started - 0.002)


async def measure(plan: Plan) -> list[Outcome]:
    """Measure everything; return the rows."""
    loop = asyncio.get_running_loop()
    others = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, others, max_tasks_per_child=1) as processes,
        tempfile.TemporaryDirectory(prefix="nearhit-bench-") as folder,
    ):
        compared = min(in_large(plan.entries), COMPARED)
        bare = await loop.run_in_executor(processes, bare_seconds, compared, plan.threads)
        say(f"hnswlib alone: {compared / bare:.0f}/s")
        before = resident()
        index = PartitionedIndex(DIMENSION, threads=plan.threads)
        books = Books(plan.entries, index)
        spent, samples = await build(books, plan.entries)
        say(f"filled: {in_large(plan.entries) / sum(spent):.0f}/s")
        gc.collect()
        held = resident() - before - samples.nbytes  # those are this benchmark's own
        outcomes = [rate(plan, compared, bare, spent), memory(held, plan.entries)]
        gc.freeze()  # as a server does after its start
        outcomes += await snapshots(books, Path(folder))
        say("snapshot taken")
        again = await loop.run_in_executor(processes, restart, Path(folder), plan.entries)
        outcomes += restarted(again)
        say("restarted")
        await asyncio.sleep(SETTLING)
        idle = await lookups(books, samples, plan, puts=0)
        outcomes.append(beside(await lookups(books, samples, plan, puts=PUTS), idle))
        await index.aclose()
        return outcomes


def rate(plan: Plan, compared: int, bare: float, spent: list[float]) -> Outcome:
    """Return the rate of the first chunks beside hnswlib's own, and that of all."""
    ours = sum(spent[: -(-compared // CHUNK)])
    large = in_large(plan.entries)
    row = Row("bulk", "vectors into one graph: our rate over hnswlib's own", "x", at_least(0.7))
    parts = {"hnswlib per s": compared / bare, "ours per s": compared / ours, "vectors": compared}
    whole = {"all per s": large / sum(spent), "all vectors": large}
    return settle(row, [Reading(value=bare / ours, parts=parts | whole)])


def memory(held: int, entries: int) -> Outcome:
    """Return what an entry costs."""
    row = Row("memory", "resident bytes an entry", "B", at_most(ALLOWED))
    parts = {"raw vector": RAW, "total MB": held / 1e6}
    return settle(row, [Reading(value=held / entries, parts=parts)])


async def snapshots(books: Books, folder: Path) -> list[Outcome]:
    """Take a snapshot while the event loop is watched."""
    lag = Lag()
    watching = asyncio.create_task(lag.watch())
    await asyncio.sleep(0.05)  # it looks already when memory is copied
    started = time.perf_counter()
    taken = await snapshot.take(
        folder, checkpoint=CHECKPOINT, index=books.index, contents=books.contents
    )
    seconds = time.perf_counter() - started
    watching.cancel()
    size = await asyncio.to_thread(folder_size, folder)
    written = {"size MB": size / 1e6}
    stalls = {"fork ms": taken.stall * 1e3}
    return [
        settle(Row("snapshot", "a snapshot is durable after", "s"),
               [Reading(value=seconds, parts=written)]),
        settle(Row("stall", "longest stall of the event loop meanwhile", "ms"),
               [Reading(value=lag.worst * 1e3, parts=stalls)]),
    ]  # fmt: skip


def folder_size(folder: Path) -> int:
    """Return the bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def restarted(parts: dict[str, float]) -> list[Outcome]:
    """Return the rows of a restart."""
    seconds = Row("restart", "from a snapshot to ready, page cache warm", "s", at_most(60))
    entries = Row("entries", "entries read back", "/s", at_least(50_000))
    size = Row("restarted", "resident bytes an entry after a restart", "B", at_most(ALLOWED))
    return [
        settle(seconds, [Reading(value=parts["seconds"], parts=parts)]),
        settle(entries, [Reading(value=parts["entries per s"], parts={})]),
        settle(size, [Reading(value=parts["bytes per entry"], parts={})]),
    ]


def beside(busy: Reading, idle: Reading) -> Outcome:
    """Return the row of lookups, with those of an idle process beside them."""
    row = Row("lookup", "lookup p99 while 200 puts a second stream in", "ms", at_most(5))
    parts = {"idle p50 ms": idle.parts["p50 ms"], "idle p99 ms": idle.value, **busy.parts}
    return settle(row, [Reading(value=busy.value, parts=parts, faults=busy.faults)])


async def lookups(books: Books, samples: Floats, plan: Plan, puts: float) -> Reading:
    """Look up at a steady rate, each timed from when another process sent it; return the p99."""
    count = int(plan.seconds * LOOKUPS)
    population = Population(seed=11)
    picked = np.random.default_rng(3).integers(len(samples), size=count)
    wordings = population.wordings(samples[picked])
    times, right, pending = list[float](), 0, set[asyncio.Task[None]]()
    sent = 0

    async def look_up(stamp: int, number: int) -> None:
        nonlocal right
        found = await books.index.search(LARGE, wordings[number], 4)
        times.append((time.monotonic_ns() - stamp) / 1e6)
        right += bool(found) and found[0].similarity > 0.9

    def arrived(stamp: int) -> None:
        nonlocal sent
        task = asyncio.create_task(look_up(stamp, sent))
        sent += 1
        pending.add(task)
        task.add_done_callback(pending.discard)

    before = books.number
    newcomers = population.vectors(int(plan.seconds * 2 * puts))
    putting = asyncio.create_task(put_on(books, newcomers))
    await arrivals(LOOKUPS, count, 5, arrived)
    await asyncio.gather(*pending)
    putting.cancel()
    faults = () if len(times) == count else (f"{len(times)} lookups ended of {count}",)
    parts = {
        "p50 ms": float(np.percentile(times, 50)),
        "longest ms": max(times),
        "found %": 100 * right / count,
        "puts": books.number - before,
    }
    return Reading(value=float(np.percentile(times, 99)), parts=parts, faults=faults)


async def put_on(books: Books, vectors: Floats) -> None:
    """Put vectors into the large partition at a steady rate."""
    due = time.perf_counter()
    for vector in vectors:
        books.put(LARGE, vector)
        due += 1 / PUTS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=FULL)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of lookups")
    parser.add_argument("--results", type=Path, default=report.RESULTS / "million.json")
    given = vars(parser.parse_args(arguments))
    results = given.pop("results")
    plan = Plan(**given)
    machine = report.describe_machine()
    outcomes = uvloop.run(measure(plan))
    print(report.markdown(machine, outcomes))
    report.write_results(results, machine, plan.entries < FULL, outcomes)
    return int(any(outcome.verdict in ("fail", "invalid") for outcome in outcomes))


def say(text: str) -> None:
    """Tell a waiting person where it stands."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
