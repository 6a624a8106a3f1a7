"""Federated training of the encoder, beside the bundled one and pooled training, on public pairs.

    python -m bench.federated --data DIR [--seed 1] [--scratch DIR] [--out FILE]

`DIR` holds pairs_*.jsonl, lines of `{"q1", "q2", "label"}`; those of nqopen, stackexchange, sts16
and gsmplus are judged, all are trained on. 20 clients have them, split by source and topic
(`rows.py`). Five folds of groups of rows that share a text: the encoders of a fold, and its
threshold a file, are learned on the other folds' rows. Prints tables and writes F0.5 a file,
intervals, precision and false hits at every threshold with and without PCA, and how long it took.
With `--scratch` what was computed before with the same settings is not computed again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import orjson

from bench.federated.account import account, record, table, targets
from bench.federated.jobs import Trial, minutes_before, run_all
from bench.federated.one_round import one_round
from bench.federated.rows import read
from bench.report import RESULTS, describe_machine
from federated.pairs import PairsInvalid

OUT = RESULTS / "federated.json"


def say(line: str) -> None:
    """Show progress, with the minutes since the start."""
    sys.stderr.write(f"[{(perf_counter() - _BEGAN) / 60:5.1f} min] {line}\n")
    sys.stderr.flush()


_BEGAN = perf_counter()


def main(arguments: Sequence[str]) -> int:
    """Run everything; return 1 when data cannot be read, 0 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench.federated", description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("NEARHIT_DATA"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="keep encoders there, and go on from them")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 5))
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    if given.data is None:
        parser.error("--data (or NEARHIT_DATA) must name the folder of the public sets")
    trial = Trial(data=given.data, seed=given.seed)
    try:
        rows = read(trial.data, trial.folds, trial.seed)
    except (PairsInvalid, OSError) as error:
        say(f"error: {error}")
        return 1
    machine = describe_machine()
    with ExitStack() as stack:
        scratch = given.scratch or Path(stack.enter_context(TemporaryDirectory()))
        before = minutes_before(trial, scratch)
        made = run_all(trial, scratch, given.workers, say)
        round_s = one_round(rows, trial)
        told = account(rows, trial, made)
    minutes = before + (perf_counter() - _BEGAN) / 60
    print(f"{machine.date}, {machine.cores} cores of {machine.processor}, seed {trial.seed}\n")
    print(table(told) + "\n")
    for what, holds in targets(told, minutes, round_s):
        print(f"- {'pass' if holds else 'FAIL'}: {what}")
    extra = {
        "machine": asdict(machine),
        "minutes": round(minutes, 1),
        "round_of_4_clients_with_200_pairs_s": round(round_s, 1),
        "targets": dict(targets(told, minutes, round_s)),
    }
    data = record(rows, trial, made, told, extra)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(
        orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n"
    )
    say(f"written to {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
