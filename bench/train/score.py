"""Fit the calibrated score that is shipped, and say how well the procedure does.

    python -m bench.train.score --data "$NEARHIT_DATA" [--out store/decision/score.json]

The sets (pairs_*.jsonl, queries_wellformedness.jsonl) are public and not part of this repository.
Each head is fitted five times on four fifths of the questions, grouped by connected texts; what it
says of the rest gives its scaling, its decision points and the table that is printed. What is
shipped is the same procedure on everything.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from bench.pairs import Rows, encode, rows_of
from bench.thresholds import DISTRACTORS
from bench.train.candidates import Encode, Example, examples_of, folds_of
from bench.train.fit import (
    Floats,
    expected_error,
    fit,
    log_odds_of,
    platt,
    points_of,
    reliability,
    served,
)
from embed.checkpoint import BUNDLED
from store.decision.features import apart
from store.decision.score import POOLED, SHIPPED, Head, Model, Score, save_score, wrong_of

FOLDS = 5
SUMS = ("gsmplus", "svamp_hardneg")
QUESTIONS = (
    "nqopen_mined", "stackexchange_dup", "sts16_questions", "meancache_llmwritten",
    "canard_rewrites",
)  # fmt: skip
SETS = (*SUMS, *QUESTIONS)


def model_of(examples: Sequence[Example], folds: Mapping[str, int]) -> tuple[Model, Floats]:
    """Return a model fitted on everything, and P(wrong) of each example from a fold without it."""
    fold = np.array([folds[each.query] for each in examples])
    right = np.array([each.right for each in examples], float)
    held_out = np.zeros(len(examples))
    for number in range(FOLDS):
        kept = [each for each, f in zip(examples, fold, strict=True) if f != number]
        asked = [each for each, f in zip(examples, fold, strict=True) if f == number]
        held_out[fold == number] = log_odds_of(fit(kept), asked)
    scaling = platt(held_out, right)
    return replace(fit(examples), scaling=scaling), wrong_of(held_out, scaling)


def head_of(examples: Sequence[Example], folds: Mapping[str, int]) -> tuple[Head, Floats, Floats]:
    """Return a head and P(wrong) of each example, held out, of its crowded and sparse model."""
    crowded, wrong = model_of(examples, folds)
    alone = [replace(each, features=apart(each.features)) for each in examples]
    sparse, wrong_alone = model_of(alone, folds)
    return Head(crowded, sparse, points_of(served(examples, wrong))), wrong, wrong_alone


def fitted(
    files: Mapping[str, Rows], distractors: Sequence[str], encode: Encode = encode
) -> tuple[Score, list[str]]:
    """Return the score fitted on all rows, and what to print about it."""
    examples = examples_of(files, distractors, encode)
    folds = folds_of(files, FOLDS)
    sums = {row["q2"] for name in SUMS for row in files.get(name, ())}
    heads, lines = {}, []
    for category, chosen in (
        # A sum that a guard vetoes teaches what a changed number is; elsewhere it only distorts.
        ("math", [each for each in examples if each.query in sums]),
        (POOLED, [each for each in examples if each.query not in sums and not each.vetoed]),
    ):
        head, wrong, wrong_alone = head_of(chosen, folds)
        heads[category] = head
        lines += _described(category or "pooled", head, chosen, wrong)
        lines += _described(f"{category or 'pooled'}, sparse", head, chosen, wrong_alone)
    return Score(BUNDLED, heads), lines


def _described(name: str, head: Head, examples: Sequence[Example], wrong: Floats) -> list[str]:
    right = np.array([each.right for each in examples], float)
    bins = reliability(wrong, right)
    answers = served(examples, wrong)
    lines = [
        f"\n**{name}: {len(examples)} candidates of {len(answers)} questions, held out; expected"
        f" calibration error {expected_error(bins):.3f}**\n",
        "| said to be wrong | were wrong | candidates |",
        "| --- | --- | --- |",
        *(f"| {said:.3f} | {came:.3f} | {count} |" for said, came, count in bins),
        "\n| budget | P(wrong) up to | served | wrong |",
        "| --- | --- | --- | --- |",
    ]
    for budget, point in head.points:
        kept = [good for risk, good in answers if risk <= point]
        lines.append(f"| {budget} | {point:.4f} | {len(kept)} | {len(kept) - sum(kept)} |")
    return lines


def main() -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("NEARHIT_DATA"))
    parser.add_argument("--out", type=Path, default=SHIPPED)
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data or set NEARHIT_DATA to the folder with the data sets")
    files = {name: rows_of(args.data / f"pairs_{name}.jsonl") for name in SETS}
    distractors = [row["text"] for row in rows_of(args.data / f"{DISTRACTORS}.jsonl")]
    score, lines = fitted(files, distractors)
    print("\n".join(lines))
    save_score(score, args.out, {"fitted": date.today().isoformat(), "sets": [*files, DISTRACTORS]})
    sys.stderr.write(f"wrote {args.out}: {args.out.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
