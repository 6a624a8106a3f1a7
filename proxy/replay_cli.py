"""`nearhit replay`: has the running server answer poor examples anew, while one looks on."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Annotated, Any

import typer

from proxy.cli_options import ConfigOption, JsonOption, load, one_line, refusals
from proxy.running_server import Unreachable, ask_server
from proxy.settings import Settings


def replay(
    config: ConfigOption = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="Examples at the most.")] = 20,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which ones.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Answer poor examples of near-hits anew, on the judge's account."""
    with refusals():
        settings, _ = load(config)
    try:
        planned = asyncio.run(ask_server(settings, "replay", {"most": most, "dry_run": True}))
        examples = planned["examples"]
        counts = None if dry_run else asyncio.run(_replay(settings, examples))
    except Unreachable as error:
        typer.echo(f"nearhit: {error}", err=True)
        raise typer.Exit(1) from None
    if counts is None:
        _show(examples, as_json)
        return
    line = ", ".join(f"{count} {name}" for name, count in counts.items())
    typer.echo(json.dumps(counts) if as_json else line)


async def _replay(settings: Settings, examples: list[dict[str, Any]]) -> dict[str, int]:
    """Replay one after the other, under a bar."""
    total = Counter[str](planned=0, replayed=0, improved=0, skipped=0, failed=0)
    with typer.progressbar(examples, label="replaying", file=sys.stderr) as shown:
        for example in shown:
            total.update(await ask_server(settings, "replay", {"ids": [example["id"]]}))
    return dict(total)


def _show(examples: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"examples": examples}, indent=2))
        return
    for each in examples:
        query = one_line(each["query"] or "", 60)
        typer.echo(
            f"{each['id']}  quality {each['quality']:.2f}  value {each['value']:.2f}  {query}"
        )
    typer.echo(f"{len(examples)} would be replayed", err=True)
