"""Fit the calibrated score that is shipped, and say how well the procedure does.

    python -m bench.train.score --data "$NEARHIT_DATA" [--out store/decision/score.json]

The sets (pairs_*.jsonl, queries_wellformedness.jsonl) are public and not part of this repository;
`contrasts.jsonl` beside this file is ours: short questions that differ in what they ask for, and
rephrasings of such. Each head is fitted five times on four fifths of the questions, grouped by
connected texts; what it says of the rest gives its scaling, its decision points and the table that
is printed. What is shipped is the same procedure on everything.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

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
from store.decision.score import POOLED, SHIPPED, Head, Score, save_score
from store.decision.score_model import Model, wrong_of

FOLDS = 5
SUMS = ("gsmplus", "svamp_hardneg")
QUESTIONS = (
    "nqopen_mined", "stackexchange_dup", "sts16_questions", "meancache_llmwritten",
    "canard_rewrites",
)  # fmt: skip
SETS = (*SUMS, *QUESTIONS)
CONTRASTS = Path(__file__).with_name("contrasts.jsonl")


def model_of(examples: Sequence[Example], folds: Mapping[str, int]) -> tuple[Model, Floats]:
    """Return a model fitted on everything, and P(wrong) of each example from a fold without it."""
    fold = np.array([folds[each.query] for each in examples])
    held_out = np.zeros(len(examples))
    for number in range(FOLDS):
        kept = [each for each, f in zip(examples, fold, strict=True) if f != number]
        asked = [each for each, f in zip(examples, fold, strict=True) if f == number]
        held_out[fold == number] = log_odds_of(fit(kept), asked)
    judged = np.array([each.judged for each in examples])
    scaling = platt(held_out[judged], _right(examples)[judged])
    return replace(fit(examples), scaling=scaling), wrong_of(held_out, scaling)


def _right(examples: Sequence[Example]) -> Floats:
    return np.array([each.right for each in examples], float)


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
    contrasts = rows_of(CONTRASTS)
    examples = examples_of(files, distractors, encode, among=SUMS, contrasts=contrasts)
    folds = folds_of({**files, CONTRASTS.stem: contrasts}, FOLDS)
    sums = _texts(row for name in SUMS for row in files.get(name, ()))
    ours = _texts(contrasts)
    heads, lines = {}, []
    for category, chosen in (
        # A sum or a contrast that a guard vetoes teaches what a small difference may mean, where no
        # guard knows the words; elsewhere it only distorts.
        ("math", [each for each in examples if each.query in sums | ours]),
        (
            POOLED,
            [e for e in examples if e.query not in sums and (e.query in ours or not e.vetoed)],
        ),
    ):
        head, wrong, wrong_alone = head_of(chosen, folds)
        heads[category] = head
        lines += _described(category or "pooled", head, chosen, wrong)
        lines += _described(f"{category or 'pooled'}, sparse", head, chosen, wrong_alone)
        lines += _contrasted(head, [each.query in ours for each in chosen], chosen, wrong)
    return Score(BUNDLED, heads), lines


def _texts(rows: Iterable[dict[str, Any]]) -> set[str]:
    return {row[side] for row in rows for side in ("q1", "q2")}


def _contrasted(
    head: Head, ours: Sequence[bool], examples: Sequence[Example], wrong: Floats
) -> list[str]:
    """Return how many of the contrasts that no guard forbids would be served, held out."""
    found = [
        (risk, each.right)
        for each, risk, mine in zip(examples, wrong, ours, strict=True)
        if mine and not each.vetoed
    ]
    right = sum(good for _, good in found)
    lines = [f"\n| budget | of {right} rephrasings served | of {len(found) - right} others |",
             "| --- | --- | --- |"]  # fmt: skip
    for budget, point in head.points:
        kept = [good for risk, good in found if risk <= point]
        lines.append(f"| {budget} | {sum(kept)} | {len(kept) - sum(kept)} |")
    return lines


def _described(name: str, head: Head, examples: Sequence[Example], wrong: Floats) -> list[str]:
    judged = np.array([each.judged for each in examples])
    bins = reliability(wrong[judged], _right(examples)[judged])
    answers = served(examples, wrong)
    lines = [
        f"\n**{name}: {judged.sum()} candidates of {len(answers)} questions, held out; expected"
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
    sets = [*files, DISTRACTORS, CONTRASTS.stem]
    save_score(score, args.out, {"fitted": date.today().isoformat(), "sets": sets})
    sys.stderr.write(f"wrote {args.out}: {args.out.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
