"""`nearhit eval`: how the decision path fares on labelled data. What is stored stays untouched."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embed.encoder import Encoder
from embed.errors import EmbedError
from proxy.checkpoint_state import CONFIGURED, read_state
from proxy.cli_options import ConfigOption, JsonOption, load, refusals
from proxy.evaluation.jsonl import Asked, texts_of
from proxy.evaluation.pair_rows import PairRow, read_pairs
from proxy.evaluation.scores import table as scores_table
from proxy.evaluation.stream_rows import StreamRow, read_stream
from proxy.evaluation.windows import PRICE_IN, PRICE_OUT, Prices, Window, total
from proxy.evaluation.windows import table as windows_table
from proxy.settings import Settings
from proxy.stored import holds_anything, open_documents
from store.policy_history import Seed

if TYPE_CHECKING:
    from proxy.evaluation.pairs import PairsReport, WrongHit
    from proxy.evaluation.stream import Answered

app = typer.Typer(no_args_is_help=True, help="Judge the decision path on labelled data.")


@app.command()
def pairs(
    files: Annotated[list[Path], typer.Argument(help="JSONL files of rows with q1, q2 and label.")],
    distractors: Annotated[
        Path | None, typer.Option(help="JSONL file whose `text`s are stored too.")
    ] = None,
    config: ConfigOption = None,
    folds: Annotated[
        int, typer.Option(min=1, max=100, help="Part the rows so that no two folds share a text.")
    ] = 1,
    wrong: Annotated[
        bool, typer.Option("--wrong", help="Print each wrong hit too; with --json on stderr.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Store every q1 in a cache of its own, ask every q2, and say how many hits were right."""
    with refusals():
        rows = [row for file in files for row in read_pairs(file)]
        others = [] if distractors is None else texts_of(distractors)
        settings, seed = load(config)
        try:
            report = asyncio.run(_pairs(settings, seed, rows, others, folds))
        except (EmbedError, OSError) as error:
            typer.echo(f"nearhit: {error}", err=True)
            raise typer.Exit(1) from None
    scores = [*report.scores, *report.folds]
    if as_json:
        typer.echo(json.dumps([each.as_data() for each in scores], indent=2))
    else:
        typer.echo(scores_table(scores))
    if wrong:
        for hit in report.wrong_hits():
            typer.echo(_wrong_hit(hit), err=as_json)


async def _pairs(
    settings: Settings, seed: Seed, rows: Sequence[PairRow], distractors: Sequence[str], folds: int
) -> PairsReport:
    # Only here: they bring the whole proxy in.
    from proxy.evaluation.pairs import evaluate_pairs
    from proxy.evaluation.stage import open_stage

    encoder = await _encoder(settings)
    async with open_stage(settings, seed, os.environ, _say, encoder=encoder) as stage:
        return await evaluate_pairs(stage, rows, distractors, _say, folds=folds)


@app.command()
def stream(
    file: Annotated[Path, typer.Argument(help="JSONL file of rows with q and answer_id.")],
    config: ConfigOption = None,
    window: Annotated[int, typer.Option(min=1, help="Queries in a line of the table.")] = 2000,
    price_in: Annotated[
        float, typer.Option(min=0, help="Dollars for a million tokens asked.")
    ] = PRICE_IN,
    price_out: Annotated[
        float, typer.Option(min=0, help="Dollars for a million tokens answered.")
    ] = PRICE_OUT,
    wrong: Annotated[
        bool, typer.Option("--wrong", help="Print each false hit too, on stderr, as it comes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Replay a stream through a cache of its own, misses stored, and say over time what it did."""
    with refusals():
        rows = read_stream(file)
        settings, seed = load(config)
        prices = Prices(price_in, price_out)
        try:
            windows = asyncio.run(_stream(settings, seed, rows, window, prices, wrong))
        except (EmbedError, OSError) as error:
            typer.echo(f"nearhit: {error}", err=True)
            raise typer.Exit(1) from None
    if as_json:
        data = {
            "file": str(file),
            "total": total(windows).as_data(),
            "windows": [each.as_data() for each in windows],
        }
        typer.echo(json.dumps(data, indent=2))
    else:
        typer.echo(windows_table(windows))


async def _stream(
    settings: Settings,
    seed: Seed,
    rows: Sequence[StreamRow],
    window: int,
    prices: Prices,
    wrong: bool,
) -> list[Window]:
    from proxy.evaluation.stage import open_stage
    from proxy.evaluation.stream import StreamClock, replay_on_stage

    clock = StreamClock()
    encoder = await _encoder(settings)
    async with open_stage(settings, seed, os.environ, _say, clock=clock, encoder=encoder) as stage:
        return await replay_on_stage(
            stage,
            clock,
            rows,
            _say,
            window=window,
            prices=prices,
            on_false_hit=_show_false_hit if wrong else None,
        )


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _wrong_hit(hit: WrongHit) -> str:
    return (
        f"\n{hit.served.similarity:.4f}  {hit.row.place}, labelled {hit.row.label}"
        f"\n  asked   {_shown(hit.row.q2)}\n  served  {_shown(hit.served.question)}"
    )


def _show_false_hit(row: StreamRow, answer: Answered) -> None:
    _say(f"asked   {_shown(row.question)}\nserved  {_shown(answer.question)}\n")


def _shown(question: Asked) -> str:
    return " | ".join(" ".join(turn.split()) for turn in (*question.context, question.text))


async def _encoder(settings: Settings) -> Encoder | None:
    """Return the encoder of the promoted checkpoint that serves; None: the configured one does."""
    if not holds_anything(settings):
        return None
    from proxy.checkpoints_root import opener

    async with open_documents(settings, read_only=True) as store:
        active = (await read_state(store.records)).active
    return None if active == CONFIGURED else await opener(settings, os.environ, _say)(active)
