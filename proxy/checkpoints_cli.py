"""`nearhit checkpoints`: which encoder serves, promoting another, and going back."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.cli_options import ConfigOption, JsonOption, load, refusals
from proxy.running_server import Unreachable, ask_server
from proxy.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Checkpoints of the encoder.")

_LOOK_EVERY = 0.5  # seconds
_DOES = {
    "judge": "judging it by held-out pairs",
    "stage": "re-encoding what is stored",
    "switch": "refitting thresholds, switching",
}
_CAME = {
    "promoted": "serves now",
    "passed": "would be promoted",
    "refused": "is refused",
    "stopped": "is not promoted",
    "failed": "is not promoted",
}


@app.command("list")
def list_checkpoints(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List checkpoints, with what the gate said of each."""
    told = _asked(_settings(config), "checkpoints")
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    for row in told["checkpoints"]:
        typer.echo(f"{row['id']}  {row['state']:9}  {_said(row)}".rstrip())
    promotion = told["promotion"]
    if promotion is not None and promotion["outcome"] == "running":
        typer.echo(_progress(promotion), err=True)


@app.command()
def promote(
    checkpoint: Annotated[str, typer.Argument(help="Its id in the list, or its directory.")],
    config: ConfigOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="In spite of what the gate says, damage excepted.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only judge it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Promote a checkpoint if it is better than the one that serves: exit 0, or 1 with reasons.

    The running server does it; it goes on when this command is interrupted. `rollback` stops it.
    """
    settings = _settings(config)
    place = Path(checkpoint)
    named = str(place.absolute()) if place.is_dir() or len(place.parts) > 1 else checkpoint
    body = {"checkpoint": named, "force": force, "dry_run": dry_run}
    began = _asked(settings, "checkpoints/promote", body)["promotion"]
    ended = _watched(settings, began)
    if as_json:
        typer.echo(json.dumps(ended, indent=2))
    else:
        typer.echo(f"{ended['checkpoint']} {_CAME[ended['outcome']]}")
        for reason in ended["reasons"]:
            typer.echo(f"  {reason}", err=True)
    if ended["outcome"] not in ("promoted", "passed"):
        raise typer.Exit(1)


@app.command()
def rollback(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Put the checkpoint from before in force again; a promotion under way is stopped instead."""
    told = _asked(_settings(config), "checkpoints/rollback", {})
    if as_json:
        typer.echo(json.dumps(told))
        return
    if told["stopped"] is not None:
        typer.echo(f"stopped promoting {told['stopped']}", err=True)
    typer.echo(f"{told['active']} serves now")


def _settings(config: Path | None) -> Settings:
    with refusals():
        return load(config)[0]


def _asked(settings: Settings, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        return asyncio.run(ask_server(settings, path, body))
    except Unreachable as error:
        typer.echo(f"nearhit: {error}", err=True)
        raise typer.Exit(1) from None


def _watched(settings: Settings, began: dict[str, Any]) -> dict[str, Any]:
    """Return how a promotion ended, showing how far it is meanwhile."""
    shown = ""
    while True:
        told: dict[str, Any] = _asked(settings, "checkpoints")["promotion"] or began
        same = (told["checkpoint"], told["began"]) == (began["checkpoint"], began["began"])
        if not same:
            typer.echo("nearhit: another promotion has begun since", err=True)
            raise typer.Exit(1)
        if told["outcome"] != "running":
            return told
        line = _progress(told)
        if line != shown:
            typer.echo(line, err=True)
            shown = line
        time.sleep(_LOOK_EVERY)


def _progress(promotion: dict[str, Any]) -> str:
    done, total = promotion["done"], promotion["total"]
    share = f": {done} of {total} ({done / total:.0%})" if total else ""
    return f"{promotion['checkpoint']}: {_DOES[promotion['step']]}{share}"


def _said(row: dict[str, Any]) -> str:
    if row["fault"] is not None:
        return str(row["fault"])
    verdict = row["verdict"]
    if verdict is None:
        return "as configured" if row["configured"] else "not judged yet"
    if verdict["reasons"]:
        return ("forced, though it " if row["forced"] else "") + "; ".join(verdict["reasons"])
    overall = verdict["overall"]
    scores = (overall["candidate"]["f_beta"], overall["running"]["f_beta"])
    return f"passed: F0.5 {scores[0]:.3f} against {scores[1]:.3f} on {overall['pairs']} pairs"
