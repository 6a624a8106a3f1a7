"""`nearhit export` and `nearhit import`: what is stored, as a file that goes elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from embed.encoder import Encoder
from embed.errors import EmbedError
from proxy.checkpoints_root import active
from proxy.cli_options import ConfigOption, JsonOption, load, refusals
from proxy.settings import Settings
from proxy.stored import open_documents
from proxy.transfer.exporting import Exported, Wanted, chosen, export
from proxy.transfer.files import STDOUT, ExportFile, Ticker, opened, written_whole
from proxy.transfer.importing import (
    Checked,
    Imported,
    Importer,
    OnConflict,
    check,
    take_policies,
)
from proxy.upkeep import utc_now
from store.documents.records import Records
from store.errors import TransferInvalid
from store.policy import PolicyBook
from store.policy_history import Seed, read_version, takes_over

_INTERRUPTED = 130  # as shells say it of SIGINT


def export_command(
    file: Annotated[Path, typer.Argument(help="Where to; .gz packs it, - is stdout.")],
    config: ConfigOption = None,
    what: Annotated[
        str | None,
        typer.Option(help="Of entries,policies,pairs,quarantine; unset: all of them."),
    ] = None,
    category: Annotated[str, typer.Option(help="Only entries and pairs of this category.")] = "",
    tenant: Annotated[str, typer.Option(help="Only what is this tenant's.")] = "",
    vectors: Annotated[
        bool, typer.Option(help="Without them the file is small, and the import encodes.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Write what is stored into a file; a running server is not disturbed."""
    names = _what(what)
    with refusals():
        settings, _ = load(config)
    wanted = Wanted(category=category, tenant=tenant, vectors=vectors)
    if names is not None:
        wanted = Wanted(what=names, category=category, tenant=tenant, vectors=vectors)
    with refusals(), _faults("nothing was written"):
        done = asyncio.run(_export(settings, file, wanted))
    text = json.dumps({"file": str(file), **done.as_data()}) if as_json else _exported(done)
    typer.echo(text, err=file == STDOUT)


async def _export(settings: Settings, file: Path, wanted: Wanted) -> Exported:
    async with open_documents(settings, read_only=True) as store:
        with written_whole(file) as out:
            return await export(
                store.documents,
                store.records,
                wanted,
                out.write,
                Ticker(_say, time.monotonic),
                at=utc_now(),
                nearhit=version("nearhit"),
            )


def import_command(
    file: Annotated[Path, typer.Argument(help="What nearhit export wrote.")],
    config: ConfigOption = None,
    what: Annotated[
        str | None,
        typer.Option(
            help="Of entries,policies,pairs,quarantine; unset: all, but policies only where"
            " none are stored and no policies file is configured."
        ),
    ] = None,
    on_conflict: Annotated[
        OnConflict,
        typer.Option(
            help="Which of two entries with one id stays: newer, skip (the stored one)"
            " or replace (the file's)."
        ),
    ] = "newer",
    as_json: JsonOption = False,
) -> None:
    """Put a file's entries, pairs and quarantine into the store, once all of it has been checked.

    The server that owns the data directory must be stopped. Entries of another encoder's
    checkpoint are encoded anew. Interrupted, the same command goes on where it was.
    """
    names = _what(what)
    with refusals():
        settings, seed = load(config)
    again = "the same command goes on where it was"
    with refusals(), _faults(again), opened(file) as source:
        checked = check(source, Ticker(_say, time.monotonic))
        came = asyncio.run(_import(settings, seed, source, checked, names, on_conflict))
    if came.unknown_categories:
        named = ", ".join(f"{name} ({n})" for name, n in sorted(came.unknown_categories.items()))
        _say(
            f"warning: these policies do not know {named}: a server drops such entries when it"
            " starts, unless it knows their categories by then"
        )
    data = {"file": str(file), **came.as_data()}
    typer.echo(json.dumps(data) if as_json else _imported(came))


async def _import(
    settings: Settings,
    seed: Seed,
    source: ExportFile,
    checked: Checked,
    names: tuple[str, ...] | None,
    on_conflict: OnConflict,
) -> Imported:
    now = utc_now()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_documents(settings, read_only=False))
        latest = await store.records.latest_version()
        if names is None:
            alone = latest is None and settings.policies is None
            names = chosen("entries,pairs,policies" if alone else "entries,pairs")
        encoder = None
        if "entries" in names and checked.counts["entries"]:
            encoder, _ = await stack.enter_async_context(
                active(settings, os.environ, store.records, _say)
            )
            _check_dimension(checked, encoder)
        policies = "left alone"
        if "policies" in names and checked.policies is not None:
            policies = await take_policies(store.records, seed, checked.policies, now)
        importer = Importer(
            store.documents,
            store.records,
            encoder=encoder,
            max_batch=settings.encoder.max_batch,
            on_conflict=on_conflict,
            book=await _book(store.records, seed),
            tick=Ticker(_say, time.monotonic),
            at=now,
        )
        importer.came.policies = policies
        await importer.take(source, checked, names)
        return importer.came


def _check_dimension(checked: Checked, encoder: Encoder) -> None:
    has = checked.dimensions.get(encoder.checkpoint, encoder.dimension)
    if has != encoder.dimension:
        raise TransferInvalid(
            f"its vectors of checkpoint {encoder.checkpoint} have {has} numbers; allowed:"
            f" {encoder.dimension}, as the encoder makes them"
        )


async def _book(records: Records, seed: Seed) -> PolicyBook:
    """Return the policies that a server would start with."""
    latest = await records.latest_version()
    return seed.book if latest is None or takes_over(seed, latest) else read_version(latest)


def _what(names: str | None) -> tuple[str, ...] | None:
    try:
        return None if names is None else chosen(names)
    except ValueError as error:
        _say(f"nearhit: --what: {error}")
        raise typer.Exit(2) from None


@contextmanager
def _faults(left: str) -> Iterator[None]:
    """Turn what can go wrong with files and encoders into a line that says what is left."""
    try:
        yield
    except KeyboardInterrupt:
        _say(f"nearhit: interrupted; {left}")
        raise typer.Exit(_INTERRUPTED) from None
    except (EmbedError, OSError) as error:
        _say(f"nearhit: {error}; {left}")
        raise typer.Exit(1) from None


def _exported(done: Exported) -> str:
    counts = done.as_data()
    named = ", ".join(f"{counts[name]} {name}" for name in ("entries", "pairs", "quarantine"))
    left_out = f"; {done.left_out} left out, damaged or removed meanwhile" if done.left_out else ""
    return f"exported {named}, {counts['policies']} version of the policies{left_out}"


def _imported(came: Imported) -> str:
    lines = [
        f"entries: {came.stored} stored ({came.encoded} encoded anew, {came.exact_only} of them by"
        f" their exact key only), {came.already_there} already there, {came.kept} kept as stored",
        f"pairs: {came.pairs}, quarantine: {came.quarantine}, policies: {came.policies}",
    ]
    return "\n".join(lines)


def _say(line: str) -> None:
    typer.echo(line, err=True)
