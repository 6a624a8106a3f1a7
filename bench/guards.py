"""What each guard takes of true rephrasings, and what it catches of look-alikes.

    python -m bench.guards --data "$NEARHIT_DATA"

Labelled pairs are looked at one by one, without a cache. Of the rows labelled 1 (the same question)
every veto is a needless miss; of the rows labelled 0 whose cosine is at least 0.8 with the bundled
encoder, every pair without a veto is left to the score. Times are of the processor, since others
may share it. The sets (pairs_*.jsonl) are public and not part of this repository.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from bench.pairs import Rows, encode, rows_of
from bench.thresholds import data_folder
from store.decision.guards import marks_of, signals, veto, vetoes

ALIKE = 0.8  # cosine from which a label-0 row could become a wrong hit
TIMED = 200  # pairs of each length that are timed


class Tally(NamedTuple):
    """How often guards forbid something."""

    rows: int
    forbidden: int
    by_guard: Counter[str]  # a row counts for each guard that forbids it
    alone: Counter[str]  # forbidden by this guard only


def tallied(pairs: Iterable[tuple[str, str]]) -> Tally:
    """Count the vetoes of (asked, stored) pairs."""
    rows = forbidden = 0
    by_guard: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    for asked, stored in pairs:
        names = vetoes(asked, stored)
        rows += 1
        forbidden += bool(names)
        by_guard.update(names)
        if len(names) == 1:
            alone.update(names)
    return Tally(rows, forbidden, by_guard, alone)


def main() -> None:
    """Print a line a file and label, then what the guards cost."""
    data = data_folder(argparse.ArgumentParser(description=__doc__))
    files = {file.stem: rows_of(file) for file in sorted(data.glob("pairs_*.jsonl"))}
    if not files:
        raise SystemExit(f"{data} has no pairs_*.jsonl")
    every = [row for rows in files.values() for row in rows]
    alike = _alike(every)
    print("| file | label | rows | pass all guards | share | vetoed by (by this one alone) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, rows in files.items():
        for label in (1, 0):
            chosen = [
                (row["q2"], row["q1"])
                for row in rows
                if row["label"] == label and (label or (row["q2"], row["q1"]) in alike)
            ]
            if chosen:
                _print(name, label, tallied(chosen))
    _print_times(every)


def _alike(rows: Rows) -> set[tuple[str, str]]:
    texts = list(dict.fromkeys(row[side] for row in rows for side in ("q1", "q2")))
    vectors = encode(texts)
    at = {text: number for number, text in enumerate(texts)}
    return {
        (row["q2"], row["q1"])
        for row in rows
        if float(vectors[at[row["q2"]]] @ vectors[at[row["q1"]]]) >= ALIKE
    }


def _print(name: str, label: int, tally: Tally) -> None:
    passed = tally.rows - tally.forbidden
    guards = ", ".join(
        f"{guard} {count} ({tally.alone[guard]})" for guard, count in tally.by_guard.most_common()
    )
    print(f"| {name} | {label} | {tally.rows} | {passed} | {passed / tally.rows:.3f} | {guards} |")


def _print_times(rows: Rows) -> None:
    print("\n| words | reading a text's marks | a veto, marks read | signals, marks read |")
    print("| --- | --- | --- | --- |")
    for fewest, most in ((8, 15), (20, 30), (90, 130)):
        pairs = [
            (row["q2"], row["q1"])
            for row in rows
            if all(fewest <= row[side].count(" ") < most for side in ("q1", "q2"))
        ][:TIMED]
        if pairs:
            print(f"| {fewest}-{most} | " + " | ".join(_times(pairs)) + " |")


def _times(pairs: Sequence[tuple[str, str]]) -> list[str]:
    marks, guards, told = [], [], []
    for asked, stored in pairs:
        for text in (asked, stored):
            marks_of.cache_clear()
            started = time.thread_time()
            marks_of(text)
            marks.append(time.thread_time() - started)
        veto(asked, stored)
        started = time.thread_time()
        veto(asked, stored)
        guards.append(time.thread_time() - started)
        started = time.thread_time()
        signals(asked, stored)
        told.append(time.thread_time() - started)
    return [f"{median(seconds) * 1e6:.0f} us" for seconds in (marks, guards, told)]


if __name__ == "__main__":
    main()
