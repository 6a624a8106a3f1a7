"""The `nearhit` command: results to stdout, everything else to stderr; exit status 0, 1 or 2."""

from __future__ import annotations

import asyncio
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
import yaml

from proxy.calibrate_cli import calibrate
from proxy.checkpoints_cli import app as checkpoints_app
from proxy.cli_options import (
    ConfigOption,
    JsonOption,
    load,
    policies_file,
    policies_in_force,
    refusals,
)
from proxy.entries_cli import app as entries_app
from proxy.eval_cli import app as eval_app
from proxy.replay_cli import replay
from proxy.transfer_cli import export_command, import_command
from store.policy_file import book_as_data, load_policies

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
policies = typer.Typer(no_args_is_help=True, help="Category policies.")
app.add_typer(policies, name="policies")
app.add_typer(entries_app, name="entries")
app.add_typer(eval_app, name="eval")
app.add_typer(checkpoints_app, name="checkpoints")
app.command()(calibrate)
app.command()(replay)
app.command("export")(export_command)
app.command("import")(import_command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(version("nearhit"))
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and exit.")
    ] = False,
) -> None:
    """An OpenAI-compatible caching reverse proxy."""


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind; 0 picks a free one.")] = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C. With nothing configured: demo models on this machine."""
    from proxy.start import CannotStart

    with refusals():
        settings, seed = load(config, host=host, port=port)
    file = policies_file(settings, config)
    try:
        if settings.server.workers > 1:
            from proxy import workers

            workers.run(settings, file, os.environ)
        else:
            from proxy import server  # only here: it brings the whole proxy in

            server.run(settings, seed, file, os.environ)
    except CannotStart as error:
        typer.echo(f"nearhit: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def check(config: ConfigOption = None) -> None:
    """Validate config and policies: exit 0, or 2 with a line per fault."""
    with refusals():
        settings, seed = load(config)
    named = f"{len(settings.upstreams)} upstreams, {len(seed.book.names)} categories"
    typer.echo(f"{config or 'defaults'}: ok ({named})")


@policies.command("show")
def policies_show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the policies in force, as YAML that a policies file may hold.

    That is the newest version in the data directory, edits over the admin API included, or what
    would become it at the next start.
    """
    with refusals():
        settings, seed = load(config)
        data = book_as_data(asyncio.run(policies_in_force(settings, seed)))
    typer.echo(json.dumps(data, indent=2) if as_json else yaml.safe_dump(data, sort_keys=False))


@policies.command("check")
def policies_check(
    file: Annotated[Path | None, typer.Argument(help="Policies file; unset: the config's.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate a policies file: exit 0, or 2 with a line per fault."""
    with refusals():
        book = load_policies(file) if file else load(config)[1].book
    typer.echo(
        json.dumps({"categories": book.names}) if as_json else f"ok: {', '.join(book.names)}"
    )


if __name__ == "__main__":
    app()
