"""What guards and score add to a lookup by meaning, in processor time.

    python -m bench.decision_cost --data "$NEARHIT_DATA"

Every `q2` meets its nearest stored `q1`s as in `bench/train/candidates.py`: each is asked once, so
its own text is read for the first time; what is stored has mostly been read before, as in a proxy
that has run for a while. Guards look at all that were found, the score at five that pass.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable

import numpy as np

from bench.pairs import encode, rows_of
from bench.thresholds import FILES, data_folder
from embed.encoder import Vectors
from store.decision.features import NEIGHBORS, neighborhoods
from store.decision.guards import marks_of, veto
from store.decision.score import shipped_score

SCORED = 5  # as proxy/nearest.py has it
LIMIT_MS = 0.5  # of the median


def costs(asked: Iterable[str], stored: list[str], similar: Vectors) -> list[tuple[int, float]]:
    """Return (words, milliseconds) of each question's decision."""
    score = shipped_score()
    for text in stored[-4096:]:  # what `marks_of` remembers
        marks_of(text)
    times = []
    for question, row in zip(asked, similar, strict=True):
        nearest = np.argsort(-row)[:NEIGHBORS]
        places = neighborhoods([float(row[i]) for i in nearest])
        started = time.thread_time()
        passed = [
            (stored[i], "", place)
            for i, place in zip(nearest, places, strict=True)
            if place.similarity >= 0.6 and veto(question, stored[i]) is None
        ]
        score.wrong(question, passed[:SCORED], "")
        times.append((len(question.split()), 1000 * (time.thread_time() - started)))
    return times


def main() -> int:
    """Print a row for all and for each length of question; return 1 if the median is too much."""
    data = data_folder(argparse.ArgumentParser(description=__doc__))
    rows = [row for name in FILES for row in rows_of(data / f"{name}.jsonl")]
    stored = list(dict.fromkeys(row["q1"] for row in rows))
    asked = sorted({row["q2"] for row in rows} - set(stored))
    vectors = encode(stored + asked)
    times = costs(asked, stored, vectors[len(stored) :] @ vectors[: len(stored)].T)
    print("| words | questions | p50 ms | p95 ms |")
    print("| --- | --- | --- | --- |")
    for label, low, high in (
        ("all", 0, 9999),
        ("1-15", 0, 15),
        ("16-40", 16, 40),
        ("41-", 41, 9999),
    ):
        chosen = [ms for words, ms in times if low <= words <= high]
        p50, p95 = np.quantile(chosen, (0.5, 0.95))
        print(f"| {label} | {len(chosen)} | {p50:.3f} | {p95:.3f} |")
    return int(float(np.median([ms for _, ms in times])) > LIMIT_MS)


if __name__ == "__main__":
    raise SystemExit(main())
