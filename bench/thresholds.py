"""Sweep the hit threshold over labelled pairs, with and without the guards.

    python -m bench.thresholds --data "$NEARHIT_DATA"

`bench/pairs.py` says what is stored, what is asked and what counts as right; the sets
(pairs_*.jsonl, queries_wellformedness.jsonl) are public and not part of this repository.
What the starter file asks of hits is found by `bench/train/score.py` from the same pairs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from bench.pairs import Found, Rows, answers, rows_of

FILES = (
    "pairs_nqopen_mined",
    "pairs_stackexchange_dup",
    "pairs_sts16_questions",
    "pairs_gsmplus",
    "pairs_svamp_hardneg",
)
DISTRACTORS = "queries_wellformedness"
SWEPT = (0.80, 0.85, 0.88, 0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98)


def data_folder(parser: argparse.ArgumentParser) -> Path:
    """Return the folder that the command line or NEARHIT_DATA names, or end with what to do."""
    parser.add_argument("--data", type=Path, default=os.environ.get("NEARHIT_DATA"), required=False)
    data: Path | None = parser.parse_args().data
    if data is None:
        parser.error("give --data or set NEARHIT_DATA to the folder with the data sets")
    return data


def main() -> None:
    """Print a table a file and one for all."""
    data = data_folder(argparse.ArgumentParser(description=__doc__))
    files = {name: rows_of(data / f"{name}.jsonl") for name in FILES}
    every = [row for rows in files.values() for row in rows]
    distractors = [row["text"] for row in rows_of(data / f"{DISTRACTORS}.jsonl")]
    bare, guarded = answers(files, distractors)
    for name, rows in {**files, "ALL": every}.items():
        _report(name, rows, {False: bare, True: guarded})


def _report(name: str, rows: Rows, found: Mapping[bool, Mapping[str, Found]]) -> None:
    unseen = [row for row in rows if row["q2"] in found[False]]
    positives = sum(row["label"] == 1 for row in unseen)
    print(f"\n### {name}: {len(unseen)} rows, {positives} positive\n")
    print("| threshold | cosine alone: hits (wrong) | precision | recall "
          "| guarded: hits (wrong) | precision | recall | F0.5 |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for threshold in SWEPT:
        cells, precision, recall = [f"{threshold:.2f}"], 1.0, 0.0
        for guarded in (False, True):
            served = [
                (row["label"] == 1, found[guarded][row["q2"]].right)
                for row in unseen
                if found[guarded].get(row["q2"], Found(-1.0, False)).similarity >= threshold
            ]
            hits, wrong = len(served), sum(not good for _, good in served)
            precision = (hits - wrong) / hits if hits else 1.0
            found_ones = sum(good for labelled, good in served if labelled)
            recall = found_ones / positives if positives else 0.0
            cells += [f"{hits} ({wrong})", f"{precision:.3f}", f"{recall:.3f}"]
        total = 0.25 * precision + recall
        cells.append(f"{1.25 * precision * recall / total:.3f}" if total else "0")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
