"""Our decision beside others, on labelled pairs and composed streams, counted the same way.

    python -m bench.decisions --data "$NEARHIT_DATA" [--seeds 5] [--folds 5] [--write]

Pairs: what `nearhit eval pairs` prints, for ours and for plain cosine over the same texts: at the
defaults of caches that are in use, and at the threshold that is best on each file's own rows. With
`--folds` also for the score's procedure, fitted to all but the fold that is asked. Everything is
counted a second time without the rows that were read and found to be labelled wrongly
(`bench/mislabelled.py`).
vCache learns from verdicts while it serves; the pairs ask every question once and give none, so it
serves nothing there. It is measured on the streams of `bench.composed_stream`, where a judge that
errs in 5 % of its verdicts tells it about every answer that it fetched. Its `delta` bounds wrong
answers among all queries, repeats included, not among the hits. Ours runs twice: under the policies
in force, and with an error budget of 1 % everywhere that audits keep (`bench/budgeted_stream.py`).
All rows are written to bench/results/decisions.json, with `--write` tables to docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from bench import composed_stream
from bench.budgeted_stream import BUDGET, auditor_of, write_policies
from bench.counted import ALL_ROWS, UNREAD, Way, counted, reread
from bench.decision_tables import (
    budget_table,
    pairs_table,
    put,
    section,
    stream_table,
)
from bench.dialogues import second_turns
from bench.pairs import rows_of
from bench.refit import held_out, retrain_on
from bench.report import RESULTS, describe_machine
from bench.rivals_decision import (
    FIXED,
    Respond,
    VectorOf,
    above,
    cosine_alone,
    nearest,
    verified,
)
from bench.thresholds import DISTRACTORS, FILES
from bench.train.score import CONTRASTS, SETS
from proxy.cli_options import load
from proxy.encoders import open_encoder
from proxy.evaluation.ahead import EncodedAhead
from proxy.evaluation.jsonl import texts_of
from proxy.evaluation.pair_rows import PairRow, read_pairs
from proxy.evaluation.pairs import evaluate_pairs
from proxy.evaluation.scores import ALL, right_answers
from proxy.evaluation.stage import Stage, open_stage
from proxy.evaluation.stream import JUDGE_NOISE, Answered, StreamClock, replay, replay_on_stage
from proxy.evaluation.stream_rows import StreamRow, read_stream
from proxy.evaluation.windows import Prices, Window, total
from proxy.requests_root import Clock
from proxy.settings import Settings
from proxy.upkeep import utc_now
from store.policy_history import Seed, read_seed

ALONE = ("pairs_meancache_llmwritten", "pairs_canard_rewrites", "ctxpairs_canard")
DIALOGUES = "multiturn_meancache"
SWEPT = (0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99, 0.995)
DELTAS = (0.01, 0.02)  # vCache's: as its class has it, as its manual does
OURS = "ours"


class Lent(EncodedAhead):
    """An encoder that several stages use one after the other; its owner closes it by `end`."""

    async def aclose(self) -> None:
        pass

    async def end(self) -> None:
        """Close it."""
        await super().aclose()


class Comparison:
    """Runs everything over one encoder and one set of policies."""

    def __init__(self, settings: Settings, seed: Seed, encoder: Lent, data: Path) -> None:
        self._settings = settings
        self._seed = seed
        self._encoder = encoder
        self._others = texts_of(data / f"{DISTRACTORS}.jsonl")
        self._sets = {name: rows_of(data / f"pairs_{name}.jsonl") for name in SETS}

    async def pairs(self, rows: Sequence[PairRow], folds: int) -> list[dict[str, Any]]:
        """Return a row a file, way of deciding and way of counting; `folds` below 2 refits none."""
        async with self._stage(self._seed) as stage:
            ours = await evaluate_pairs(stage, rows, self._others, say)
        ways: dict[str, Way] = {OURS: ours.served}
        if folds > 1 and self._has_learnt_from(rows):
            ways[f"{OURS}, {folds} folds"] = await self._refitted(rows, folds)
        vector_of = await self._vectors(
            [*self._others, *(q.text for row in rows for q in (row.q1, row.q2))]
        )
        found = nearest(rows, self._others, vector_of)
        ways |= {name: above(threshold, found) for name, threshold in FIXED.items()}
        ways["vCache (no labels)"] = above(2.0, found)
        made = counted(ALL_ROWS, rows, right_answers(rows), ways, found)
        return made + counted(UNREAD, *reread(rows), ways, found)

    def _has_learnt_from(self, rows: Sequence[PairRow]) -> bool:
        learnt = {row[side] for own in self._sets.values() for row in own for side in ("q1", "q2")}
        return not learnt.isdisjoint(held_out(rows, []))

    async def _refitted(self, rows: Sequence[PairRow], folds: int) -> Way:
        own = [*self._sets.values(), rows_of(CONTRASTS)]
        learnt = [row[side] for rows in own for row in rows for side in ("q1", "q2")]
        vector_of = await self._vectors([*self._others, *learnt])
        async with self._stage(self._seed) as stage:
            retrain = retrain_on(stage, self._sets, self._others, rows, vector_of)
            made = await evaluate_pairs(
                stage, rows, self._others, say, folds=folds, retrain=retrain
            )
        return made.served

    def _stage(self, seed: Seed, clock: Clock = utc_now) -> AbstractAsyncContextManager[Stage]:
        return open_stage(self._settings, seed, os.environ, say, clock=clock, encoder=self._encoder)

    async def stream(self, rows: Sequence[StreamRow], seed: int) -> list[dict[str, Any]]:
        """Return a row a way of deciding, over one composed stream."""
        prices = Prices()
        made = await self._ours(rows, seed, prices)
        vector_of = await self._vectors([row.question.text for row in rows])
        room = len({row.question.text for row in rows})
        ways: dict[str, Respond] = {}
        for threshold in SWEPT:
            ways[f"cosine {threshold}"] = cosine_alone(vector_of, room, threshold)
        for delta in DELTAS:
            chance = random.Random(seed)
            ways[f"vCache ({delta})"] = verified(vector_of, len(rows), delta, JUDGE_NOISE, chance)
        for name, respond in ways.items():
            say(f"stream {seed}: {name}")
            windows = await replay(
                rows, _waiting(respond), _nothing, window=len(rows), prices=prices
            )
            made.append(_stream_row(name, seed, windows))
        return made

    async def _ours(
        self, rows: Sequence[StreamRow], seed: int, prices: Prices
    ) -> list[dict[str, Any]]:
        clock = StreamClock()
        async with self._stage(self._seed, clock) as stage:
            windows = await replay_on_stage(
                stage, clock, rows, say, window=len(rows), prices=prices
            )
        made = [_stream_row(OURS, seed, windows)]
        with TemporaryDirectory() as folder:
            file = Path(folder) / "policies.yaml"
            write_policies(file)
            budgeted = read_seed(file)
        clock = StreamClock()
        async with self._stage(budgeted, clock) as stage:
            auditor = auditor_of(stage, seed)
            windows = await replay_on_stage(
                stage, clock, rows, say,
                window=len(rows), prices=prices, judgement=auditor.judgement(),
            )  # fmt: skip
            row = _stream_row(f"{OURS}, error_budget {BUDGET}", seed, windows)
            return [*made, row | auditor.as_data()]

    async def _vectors(self, texts: Sequence[str]) -> VectorOf:
        """Return a vector a text, of a long one that of its beginning: so other caches do it."""
        await self._encoder.prepare(texts, say)
        seen = {
            t: t if self._encoder.fits(t) else self._encoder.first_window(t) for t in set(texts)
        }
        readable = {text: window for text, window in seen.items() if window is not None}
        vectors = await self._encoder.encode(list(readable.values()))
        return dict(zip(readable, vectors, strict=True))


def _read(data: Path, name: str) -> list[PairRow]:
    """Return a set's rows under its name alone: results must not tell of anybody's folders."""
    return [replace(row, file=name) for row in read_pairs(data / f"{name}.jsonl")]


def _waiting(respond: Respond) -> Callable[[StreamRow], Any]:
    async def answer(row: StreamRow) -> Answered | None:
        return respond(row)

    return answer


def _stream_row(way: str, seed: int, windows: Sequence[Window]) -> dict[str, Any]:
    return {"way": way, "seed": seed, **total(windows).as_data()}


def say(line: str) -> None:
    """Show progress."""
    sys.stderr.write(f"{line}\n")


def _nothing(line: str) -> None:
    pass


async def compare(data: Path, config: Path | None, seeds: int, folds: int) -> dict[str, Any]:
    """Return all rows; tables are printed as they come."""
    settings, seed = load(config)
    encoder = Lent(await open_encoder(settings.encoder, os.environ, say))
    try:
        comparison = Comparison(settings, seed, encoder, data)
        pairs = await comparison.pairs([row for name in FILES for row in _read(data, name)], folds)
        alone = [_read(data, name) for name in ALONE]
        alone.append(second_turns(rows_of(data / f"{DIALOGUES}.jsonl"), DIALOGUES))
        for own in alone:
            made = await comparison.pairs(own, folds)
            pairs += [row for row in made if row["file"] != ALL]
        for view in (ALL_ROWS, UNREAD):
            print(f"{view}:\n\n{pairs_table([row for row in pairs if row['rows'] == view])}\n")
        streams: list[dict[str, Any]] = []
        for number in range(1, seeds + 1):
            with TemporaryDirectory() as folder:
                file = Path(folder) / "stream.jsonl"
                composed_stream.write(file, composed_stream.stream(data, number))
                rows = read_stream(file)
            made = await comparison.stream(rows, number)
            streams += made
            print(f"{stream_table(made)}\n")
        print(budget_table(streams))
        return {"pairs": pairs, "streams": streams}
    finally:
        await encoder.end()


def main() -> None:
    """Print the tables and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("NEARHIT_DATA"))
    parser.add_argument("--seeds", type=int, default=5, help="composed streams; 0: pairs only")
    parser.add_argument("--folds", type=int, default=1, help="refit the score so often; 1: not")
    parser.add_argument("--config", type=Path, help="settings and policies; unset: defaults")
    parser.add_argument("--write", action="store_true", help="tables into docs/benchmarks.md")
    given = parser.parse_args()
    if given.data is None:
        parser.error("give --data or set NEARHIT_DATA to the folder with the data sets")
    machine = describe_machine()  # now: a long run must not name a commit that came meanwhile
    made = asyncio.run(compare(given.data, given.config, given.seeds, given.folds))
    record = {"machine": asdict(machine), "judge_noise": JUDGE_NOISE, **made}
    file = RESULTS / "decisions.json"
    file.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    if given.write:
        put(section(record))


if __name__ == "__main__":
    main()
