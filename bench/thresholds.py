"""Sweep the hit threshold over labelled pairs, with and without the guards.

    python -m bench.thresholds --data "$NEARHIT_DATA"

Every `q1` of all files and every distractor is stored in one partition; every `q2` that is not
itself stored is asked; the nearest stored question that no guard vetoes answers it if its cosine
clears the threshold. A hit is right if some row labels the stored question 1 with this `q2`.
The sets (pairs_*.jsonl, queries_wellformedness.jsonl) are public and not part of this repository.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embed.checkpoint import bundled_checkpoint_dir
from embed.export import ensure_bundled
from embed.onnx_encoder import OnnxEncoder
from store.decision.guards import veto

FILES = (
    "pairs_nqopen_mined",
    "pairs_stackexchange_dup",
    "pairs_sts16_questions",
    "pairs_gsmplus",
    "pairs_svamp_hardneg",
)
DISTRACTORS = "queries_wellformedness"
SWEPT = (0.80, 0.85, 0.88, 0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98)
NEAREST = 8


def rows_of(file: Path) -> list[dict[str, object]]:
    """Return a JSONL file's rows."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


async def encode(texts: list[str]) -> npt.NDArray[np.float32]:
    """Return a unit row a text, with progress on stderr."""
    encoder = OnnxEncoder(ensure_bundled(bundled_checkpoint_dir(), lambda _: None))
    parts = []
    for start in range(0, len(texts), 256):
        parts.append(
            await encoder.encode([" ".join(t.split()[:150]) for t in texts[start : start + 256]])
        )
        sys.stderr.write(f"\rencoded {min(start + 256, len(texts))} of {len(texts)} texts")
    sys.stderr.write("\n")
    await encoder.aclose()
    return np.concatenate(parts)


def main() -> None:
    """Print a table a file and one for all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("NEARHIT_DATA"), required=False)
    data = parser.parse_args().data
    if data is None:
        parser.error("give --data or set NEARHIT_DATA to the folder with the pairs_*.jsonl files")
    files = {name: rows_of(data / f"{name}.jsonl") for name in FILES}
    every = [row for rows in files.values() for row in rows]
    distractors = [str(row["text"]) for row in rows_of(data / f"{DISTRACTORS}.jsonl")]
    stored = list(dict.fromkeys([str(row["q1"]) for row in every] + distractors))
    right: defaultdict[str, set[str]] = defaultdict(set)
    for row in every:
        if row["label"] == 1:
            right[str(row["q2"])].add(str(row["q1"]))
    asked = sorted({str(r["q2"]) for r in every} - set(stored))
    vectors = asyncio.run(encode(stored + asked))
    similar = vectors[len(stored) :] @ vectors[: len(stored)].T
    nearest = np.argsort(-similar, axis=1)[:, :NEAREST]
    found: dict[bool, dict[str, tuple[float, bool]]] = {True: {}, False: {}}
    for number, question in enumerate(asked):
        for guarded in (False, True):
            for candidate in nearest[number]:
                if guarded and veto(question, stored[candidate]):
                    continue
                good = stored[candidate] in right[question]
                found[guarded][question] = (float(similar[number, candidate]), good)
                break
    for name, rows in {**files, "ALL": every}.items():
        _report(name, rows, found)


def _report(
    name: str, rows: list[dict[str, object]], found: dict[bool, dict[str, tuple[float, bool]]]
) -> None:
    unseen = [row for row in rows if str(row["q2"]) in found[False]]
    positives = sum(row["label"] == 1 for row in unseen)
    print(f"\n### {name}: {len(unseen)} rows, {positives} positive\n")
    print("| threshold | cosine alone: hits (wrong) | precision | recall "
          "| guarded: hits (wrong) | precision | recall | F0.5 |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for threshold in SWEPT:
        cells, precision, recall = [f"{threshold:.2f}"], 1.0, 0.0
        for guarded in (False, True):
            served = [
                (row["label"] == 1, found[guarded][str(row["q2"])][1])
                for row in unseen
                if found[guarded].get(str(row["q2"]), (-1.0, False))[0] >= threshold
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
