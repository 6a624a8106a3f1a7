"""Our decision beside others, on labelled pairs and composed streams, counted the same way.

    python -m bench.decisions --data "$NEARHIT_DATA" [--seeds 1] [--config FILE]

Pairs: what `nearhit eval pairs` prints, for ours and for plain cosine over the same texts: at the
defaults of caches that are in use, and at the threshold that is best on each file's own rows.
vCache learns from verdicts while it serves; the pairs ask every question once and give none, so it
serves nothing there. It is measured on the streams of `bench.composed_stream`, where a judge that
errs in 5 % of its verdicts tells it about every answer that it fetched. Its `delta` bounds wrong
answers among all queries, repeats included, not among the hits. All rows are written to
bench/results/decisions.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from bench import composed_stream
from bench.report import RESULTS, describe_machine
from bench.rivals_decision import (
    FIXED,
    Respond,
    VectorOf,
    above,
    best_threshold,
    cosine_alone,
    nearest,
    verified,
)
from bench.thresholds import DISTRACTORS, FILES
from embed.encoder import Encoder
from proxy.cli_options import load
from proxy.encoders import open_encoder
from proxy.evaluation.ahead import EncodedAhead
from proxy.evaluation.jsonl import texts_of
from proxy.evaluation.pair_rows import PairRow, read_pairs
from proxy.evaluation.pairs import evaluate_pairs
from proxy.evaluation.scores import ALL, Score, by_file, right_answers, score
from proxy.evaluation.stage import open_stage
from proxy.evaluation.stream import JUDGE_NOISE, Answered, StreamClock, replay, replay_on_stage
from proxy.evaluation.stream_rows import StreamRow, read_stream
from proxy.evaluation.windows import Prices, Window, total
from proxy.settings import Settings
from store.policy_history import Seed

ALONE = ("pairs_meancache_llmwritten", "pairs_canard_rewrites", "ctxpairs_canard")
SWEPT = (0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99, 0.995)
DELTAS = (0.01, 0.02)  # vCache's: as its class has it, as its manual does
TOLERATED = 0.01  # realised error
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

    def __init__(self, settings: Settings, seed: Seed, encoder: Lent) -> None:
        self._settings = settings
        self._seed = seed
        self._encoder = encoder

    async def pairs(self, files: Sequence[Path], distractors: Path) -> list[dict[str, Any]]:
        """Return a row a file and way of deciding."""
        rows = [row for file in files for row in read_pairs(file)]
        rows = [_renamed(row) for row in rows]
        others = texts_of(distractors)
        async with open_stage(
            self._settings, self._seed, os.environ, say, encoder=self._encoder
        ) as stage:
            ours = await evaluate_pairs(stage, rows, others, say)
        vector_of = await self._vectors([*others, *(q.text for r in rows for q in (r.q1, r.q2))])
        found, right = nearest(rows, others, vector_of), right_answers(rows)
        ways = {OURS: ours.scores}
        for name, threshold in FIXED.items():
            ways[name] = by_file(rows, above(threshold, found), right)
        made = [{"way": name, **each.as_data()} for name, scores in ways.items() for each in scores]
        for name in (*dict.fromkeys(row.file for row in rows), ALL):
            own = [row for row in rows if name in (row.file, ALL)]
            threshold = best_threshold(own, found, right)
            best: Score = score(name, own, above(threshold, found), right)
            made.append({"way": f"best cosine ({threshold:.3f})", **best.as_data()})
        nothing = by_file(rows, above(2.0, found), right)
        made += [{"way": "vCache (no labels)", **each.as_data()} for each in nothing]
        return made

    async def stream(self, rows: Sequence[StreamRow], seed: int) -> list[dict[str, Any]]:
        """Return a row a way of deciding, over one composed stream."""
        clock = StreamClock()
        prices = Prices()
        async with open_stage(
            self._settings, self._seed, os.environ, say, clock=clock, encoder=self._encoder
        ) as stage:
            windows = await replay_on_stage(
                stage, clock, rows, say, window=len(rows), prices=prices
            )
        made = [_stream_row(OURS, seed, windows)]
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

    async def _vectors(self, texts: Sequence[str]) -> VectorOf:
        """Return a vector a text, of a long one that of its beginning: so other caches do it."""
        await self._encoder.prepare(texts, say)
        seen = {
            t: t if self._encoder.fits(t) else self._encoder.first_window(t) for t in set(texts)
        }
        readable = {text: window for text, window in seen.items() if window is not None}
        vectors = await self._encoder.encode(list(readable.values()))
        return dict(zip(readable, vectors, strict=True))


def _renamed(row: PairRow) -> PairRow:
    """Return the row under its file's name alone: results must not tell of anybody's folders."""
    return PairRow(Path(row.file).stem, row.place, row.q1, row.q2, row.label)


def _waiting(respond: Respond) -> Callable[[StreamRow], Any]:
    async def answer(row: StreamRow) -> Answered | None:
        return respond(row)

    return answer


def _stream_row(way: str, seed: int, windows: Sequence[Window]) -> dict[str, Any]:
    return {"way": way, "seed": seed, **total(windows).as_data()}


def best_tolerated(rows: Sequence[dict[str, Any]], error: float) -> dict[str, Any] | None:
    """Return the fixed cosine with the most hits among those whose realised error is no larger."""
    kept = [row for row in rows if row["way"].startswith("cosine")]
    kept = [row for row in kept if row["realised_error"] <= error and row["semantic_hits"]]
    return max(kept, key=lambda row: float(row["hit_rate"]), default=None)


def pairs_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the pairs' rows as Markdown, file by file."""
    lines = [
        "| file | way | n | hits (wrong) | precision | recall | F0.5 | false-hit rate |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(row["file"] for row in rows):
        for row in (row for row in rows if row["file"] == name):
            lines.append(
                f"| {name} | {row['way']} | {row['n']} | {row['hits']} ({row['wrong_hits']})"
                f" | {row['precision']:.3f} | {row['recall']:.3f} | {row['f05']:.3f}"
                f" | {row['false_hit_rate']:.3f} |"
            )
    return "\n".join(lines)


def stream_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a stream's rows as Markdown."""
    lines = [
        "| seed | way | semantic hits (false) | realised error | hit rate"
        " | repeats served (wrongly) | cost saved |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row['seed']} | {row['way']} | {row['semantic_hits']} ({row['false_hits']})"
            f" | {row['realised_error']:.4f} | {row['hit_rate']:.4f}"
            f" | {row['repeat_hits']} ({row['repeat_false_hits']})"
            f" | {row['cost_saved'] / row['cost']:.3f} |"
        )
    return "\n".join(lines)


def say(line: str) -> None:
    """Show progress."""
    sys.stderr.write(f"{line}\n")


def _nothing(line: str) -> None:
    pass


async def compare(data: Path, config: Path | None, seeds: int) -> dict[str, Any]:
    """Return all rows; tables are printed as they come."""
    settings, seed = load(config)
    inner: Encoder = await open_encoder(settings.encoder, os.environ, say)
    encoder = Lent(inner)
    try:
        comparison = Comparison(settings, seed, encoder)
        distractors = data / f"{DISTRACTORS}.jsonl"
        pairs = await comparison.pairs([data / f"{name}.jsonl" for name in FILES], distractors)
        for name in ALONE:
            made = await comparison.pairs([data / f"{name}.jsonl"], distractors)
            pairs += [row for row in made if row["file"] != ALL]
        print(f"{pairs_table(pairs)}\n")
        streams: list[dict[str, Any]] = []
        for number in range(1, seeds + 1):
            with TemporaryDirectory() as folder:
                file = Path(folder) / "stream.jsonl"
                composed_stream.write(file, composed_stream.stream(data, number))
                rows = read_stream(file)
            made = await comparison.stream(rows, number)
            streams += made
            print(stream_table(made))
            best = best_tolerated(made, max(TOLERATED, made[0]["realised_error"]))
            named = "none" if best is None else f"{best['way']}, hit rate {best['hit_rate']:.4f}"
            print(f"\nBest fixed cosine with an error no larger than ours or 1 %: {named}.\n")
        return {"pairs": pairs, "streams": streams}
    finally:
        await encoder.end()


def main() -> None:
    """Print the tables and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("NEARHIT_DATA"))
    parser.add_argument("--seeds", type=int, default=1, help="composed streams; 0: pairs only")
    parser.add_argument("--config", type=Path, help="settings and policies; unset: defaults")
    given = parser.parse_args()
    if given.data is None:
        parser.error("give --data or set NEARHIT_DATA to the folder with the data sets")
    machine = describe_machine()  # now: a long run must not name a commit that came meanwhile
    made = asyncio.run(compare(given.data, given.config, given.seeds))
    record = {"machine": asdict(machine), "judge_noise": JUDGE_NOISE, **made}
    file = RESULTS / "decisions.json"
    file.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main()
