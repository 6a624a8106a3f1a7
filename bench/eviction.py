"""Replay request traces through our eviction, LRU and FIFO: hit ratios and time an operation.

    python -m bench.eviction --data "$NEARHIT_DATA" [--rivals]

The traces are cache2k's public ones (CC BY 4.0, headissue GmbH): web07, requests for a shop's
product pages, and orm-busy, an application server's object cache. cache2k-benchmark and Caffeine's
simulator carry them as `web07.trace.xz` and `orm-busy.trace.xz`. The folder holds them as
`trace_cache2k_NAME.csv.gz` with a column `key` (and any others), a row a request; they are not part
of this repository. Every entry is of one size and cost, in one category.
Times are of the processor, for other work on the machine shows in them less.
`--rivals` adds a table with the policies of `bench.rivals`, which ours was chosen among.
Ends with status 1 when ours falls behind.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench import report
from bench.rivals import RIVALS, Keys, Policy, fifo, lru
from bench.verdicts import Outcome, Reading, Row, Target, at_least, at_most, settle
from store.entry import EntryId
from store.eviction import Occupancy, Quota, Share

ROOMS = (256, 1024, 4096)  # entries
TRACES: dict[str, Target] = {  # points of hit % above LRU
    "web07": at_least(0.01),
    "orm-busy": at_least(-0.5),
}
SIZE, COST = 4096, 1.0
CATEGORY = "all"
BLOCKS, TOUCHES = 25, 4_000
MAKES = 5_000
CATEGORIES = 10


def read_trace(path: Path) -> list[str]:
    """Return the keys of a trace in their order."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        return [row["key"] for row in csv.DictReader(lines)]


def nearhit(keys: Keys, room: int) -> int:
    """Return the hits of ours with one category."""
    occupancy = Occupancy({CATEGORY: Share(Quota(room, room * SIZE))})
    hits = 0
    for key in keys:
        id = EntryId(key)
        if id in occupancy:
            hits += 1
            occupancy.touch(id)
        else:
            make_room_and_add(occupancy, id, CATEGORY)
    return hits


def make_room_and_add(occupancy: Occupancy, id: EntryId, category: str) -> None:
    """Do what a miss does: ask who must go, let them go, add."""
    for victim in occupancy.victims(category, SIZE, id) or ():
        occupancy.drop(victim)
    occupancy.add(id, category, SIZE, COST)


POLICIES: dict[str, Policy] = {"nearhit": nearhit, "LRU": lru, "FIFO": fifo}


def compare(keys: Keys, room: int) -> Reading:
    """Return the points of hit % that ours is above LRU, with everybody's hits and times."""
    parts = {}
    for name, policy in POLICIES.items():
        started = time.process_time()
        hits = policy(keys, room)
        elapsed = time.process_time() - started
        parts[f"{name} hit %"] = 100 * hits / len(keys)
        parts[f"{name} us"] = elapsed / len(keys) * 1e6
    return Reading(value=parts["nearhit hit %"] - parts["LRU hit %"], parts=parts)


def time_touch(entries: int) -> Reading:
    """Return the time in us of counting a hit, of entries chosen at random: a median of blocks."""
    occupancy, ids = filled(entries)
    order = random.Random(7)
    times = []
    for _ in range(BLOCKS):
        hit = order.choices(ids, k=TOUCHES)
        started = time.process_time()
        for id in hit:
            occupancy.touch(id)
        times.append((time.process_time() - started) / TOUCHES * 1e6)
    return Reading(value=median(times), parts={"entries": entries, "slowest block us": max(times)})


def time_eviction(entries: int) -> Reading:
    """Return the p50 in us of a miss (ask, drop, add) in a full house; each follows four hits."""
    occupancy, ids = filled(entries)
    order = random.Random(7)
    times = []
    for number in range(MAKES):
        for id in order.choices(ids, k=4):
            occupancy.touch(id)
        started = time.process_time()
        make_room_and_add(occupancy, EntryId(f"new-{number}"), f"category-{number % CATEGORIES}")
        times.append((time.process_time() - started) * 1e6)
    times.sort()
    parts = {"entries": entries, "p99 us": times[MAKES * 99 // 100], "longest us": times[-1]}
    return Reading(value=times[MAKES // 2], parts=parts)


def filled(entries: int) -> tuple[Occupancy, list[EntryId]]:
    """Return ten full categories, and everybody's ids."""
    each = entries // CATEGORIES
    names = [f"category-{number}" for number in range(CATEGORIES)]
    occupancy = Occupancy({name: Share(Quota(each, each * SIZE)) for name in names})
    ids = [EntryId(f"{number:032x}") for number in range(each * CATEGORIES)]
    for number, id in enumerate(ids):
        occupancy.add(id, names[number % CATEGORIES], SIZE, COST)
    return occupancy, ids


def measure(traces: dict[str, list[str]], rounds: int) -> list[Outcome]:
    """Return a row a trace and room, and what hits and evictions take."""
    outcomes = []
    for name, keys in traces.items():
        for room in ROOMS:
            what = f"{name}, {room} entries: hit % above LRU's"
            row = Row(f"{name}-{room}", what, "points", TRACES[name])
            outcomes.append(settle(row, [compare(keys, room) for _ in range(rounds)]))
            print(report.table(outcomes[-1:]), file=sys.stderr)
    touch = Row("touch", "counting a hit among 10,000 entries", "us", at_most(1.0))
    outcomes.append(settle(touch, [time_touch(10_000) for _ in range(rounds)]))
    evict = Row("evict", "a miss that evicts among 100,000 entries of 10 categories", "us")
    outcomes.append(settle(evict, [time_eviction(100_000) for _ in range(rounds)]))
    return outcomes


def rivals_table(traces: dict[str, list[str]], policies: dict[str, Policy]) -> str:
    """Return everybody's hit ratios as markdown."""
    heads = [f"{name} {room}" for name in traces for room in ROOMS]
    lines = [f"| policy | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
    for name, policy in policies.items():
        ratios = [policy(keys, room) / len(keys) for keys in traces.values() for room in ROOMS]
        lines.append(f"| {name} | {' | '.join(f'{ratio:.4f}' for ratio in ratios)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Read the command line, replay, print, write; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("NEARHIT_DATA"))
    parser.add_argument("--rivals", action="store_true", help="also compare other policies")
    parser.add_argument("--rounds", type=int, default=3, help="times are medians of so many")
    parser.add_argument("--results", type=Path, default=report.RESULTS / "eviction.json")
    given = parser.parse_args(arguments)
    if given.data is None:
        parser.error("give --data or set NEARHIT_DATA to the folder with trace_cache2k_*.csv.gz")
    traces = {name: read_trace(given.data / f"trace_cache2k_{name}.csv.gz") for name in TRACES}
    machine = report.describe_machine()
    outcomes = measure(traces, given.rounds)
    print(report.markdown(machine, outcomes))
    report.write_results(given.results, machine, given.rounds < 3, outcomes)
    if given.rivals:
        print(f"\n{rivals_table(traces, POLICIES | RIVALS)}")
    return int(any(outcome.verdict in ("fail", "invalid") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
