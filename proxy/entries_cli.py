"""`nearhit entries`: stored answers, read from the file, purged where they are served from."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from embed.errors import EmbedError
from proxy.admin.entries import audit_row, entry_as_data, summary_as_data
from proxy.admin.meaning import UNREADABLE
from proxy.admin.purge import MEANS_THE_SAME, Near, Purge, matching, similar, take_out, told
from proxy.checkpoints_root import active
from proxy.cli_options import ConfigOption, JsonOption, harmless, load, one_line, refusals
from proxy.reencoding import made_from
from proxy.running_server import Unreachable, ask_server
from proxy.settings import Settings
from proxy.stored import Opened, holds_anything, open_documents
from proxy.upkeep import utc_now
from store.documents.base import Filter
from store.entry import EntryId
from store.errors import DirectoryInUse
from store.journal import Purging

app = typer.Typer(no_args_is_help=True, help="Stored answers.")

_WHO = "nearhit entries purge"  # in the audit trail


def _fail(message: str) -> typer.Exit:
    typer.echo(f"nearhit: {message}", err=True)
    return typer.Exit(1)


def _loaded(config: Path | None) -> Settings:
    with refusals():
        settings, _ = load(config)
    if not holds_anything(settings):
        raise _fail(f"nothing is stored in {settings.data_dir}")
    return settings


@app.command("list")
def list_entries(
    config: ConfigOption = None,
    category: Annotated[str, typer.Option(help="Only this category.")] = "",
    tenant: Annotated[str, typer.Option(help="Only this tenant.")] = "",
    text: Annotated[str, typer.Option(help="Only questions with this text in them.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="`next` of the page before.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List entries, newest first."""
    settings = _loaded(config)

    async def browse() -> Any:
        async with open_documents(settings, read_only=True) as store:
            chosen = Filter(category=category, tenant=tenant, text=text)
            return await store.documents.browse(chosen, limit=limit, cursor=cursor)

    with refusals():
        try:
            page = asyncio.run(browse())
        except ValueError as error:
            raise _fail(str(error)) from None
    if as_json:
        rows = [summary_as_data(entry) for entry in page.entries]
        typer.echo(json.dumps({"entries": rows, "next": page.next}, indent=2))
        return
    for entry in page.entries:
        query = one_line(entry.query, 70)
        typer.echo(f"{entry.id}  {entry.created_at:%Y-%m-%d %H:%M}  {entry.category:12}  {query}")
    if page.next:
        typer.echo(f"more: --cursor {page.next}", err=True)


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="As in X-Nearhit-Entry.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one entry with its answer."""
    settings = _loaded(config)

    async def get() -> Any:
        async with open_documents(settings, read_only=True) as store:
            return await store.documents.get(EntryId(id))

    with refusals():
        entry = asyncio.run(get())
    if entry is None:
        raise _fail(f"there is no entry {id}")
    data = entry_as_data(entry)
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    else:
        for name, value in data.items():
            typer.echo(f"{name + ':':14}{harmless(str(value))}")


@app.command()
def purge(
    id: Annotated[str | None, typer.Argument(help="One entry's id.")] = None,
    config: ConfigOption = None,
    category: Annotated[str | None, typer.Option(help="Every entry of this category.")] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Every entry of this tenant, its pairs and its feedback.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Every answer of this model.")] = None,
    tag: Annotated[str | None, typer.Option(help="Every entry with this tag.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Questions that begin with this.")] = None,
    similar_to: Annotated[str | None, typer.Option(help="Questions that mean this.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="With --similar-to: the cosine, -1 to 1; unset: 0.92."),
    ] = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove entries for good, from the running server too (it is told over its admin API)."""
    settings = _loaded(config)
    selectors = {
        "id": id,
        "category": category,
        "tenant": tenant,
        "model": model,
        "tag": tag,
        "prefix": prefix,
        "similar_to": similar_to,
        "all": all_of_them or None,
    }
    given = {name: value for name, value in selectors.items() if value is not None}
    if len(given) != 1:
        raise _fail(
            "give one of: ID, --category, --tenant, --model, --tag, --prefix, --similar-to, --all"
        )
    try:
        wanted = Purge(**given, threshold=threshold, dry_run=dry_run)
    except ValidationError as refused:
        fault = refused.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        typer.echo(f"nearhit: {where}: {message}" if where else f"nearhit: {message}", err=True)
        raise typer.Exit(2) from None
    with refusals():
        try:
            counts = asyncio.run(_purge_store(settings, wanted))
        except EmbedError as error:
            raise _fail(f"--similar-to: the text cannot be encoded: {error}") from None
        except DirectoryInUse:
            try:
                counts = asyncio.run(_purge_server(settings, wanted))
            except Unreachable as error:
                raise _fail(str(error)) from None
    line = f"{counts['matched']} matched, {counts['purged']} purged"
    typer.echo(json.dumps(counts) if as_json else line)


async def _purge_store(settings: Settings, wanted: Purge) -> dict[str, int]:
    """Purge what no other process holds, or what replicas follow."""
    async with open_documents(settings, read_only=False) as store:
        if wanted.similar_to is None:
            await _begin(store, wanted, wanted)
            found = await matching(store.documents, wanted)
        else:
            found = await _similar(settings, store, wanted, wanted.similar_to)
        if wanted.dry_run:
            return {"matched": len(found), "purged": 0}
        done = {"matched": len(found), "purged": await take_out(store.documents, found)}
        if wanted.tenant is not None:
            await store.records.forget_tenant(wanted.tenant)
            await store.usage.fold(wanted.tenant, utc_now())
        # As the server does it: what went is in the trail whoever has asked for it, and where.
        asked = wanted.model_dump(exclude_none=True, exclude={"dry_run"})
        await store.records.add_audit(audit_row(utc_now(), _WHO, "purge", asked | done))
        await store.settled()
    return done


async def _begin(store: Opened, wanted: Purge, selected: Purge | Near) -> None:
    """Have running replicas not store what they asked for before, if they are to be purged."""
    if not wanted.dry_run:
        await store.tell(Purging(told(selected)))
        await store.settled()


async def _similar(settings: Settings, store: Opened, wanted: Purge, text: str) -> list[EntryId]:
    def say(line: str) -> None:
        typer.echo(line, err=True)

    cosine = MEANS_THE_SAME if wanted.threshold is None else wanted.threshold
    async with active(settings, os.environ, store.records, say) as (encoder, file):
        if not encoder.fits(text):
            raise _fail(f"--similar-to: {UNREADABLE}")
        vector = (await encoder.encode([text]))[0]
        made = None if file is None else made_from(file)
        near = Near(vector, cosine, encoder.checkpoint)
        await _begin(store, wanted, near)
        return await similar(store.documents, near, encoder, made)


async def _purge_server(settings: Settings, wanted: Purge) -> dict[str, int]:
    """Ask the server that holds the directory; raise Unreachable."""
    body = await ask_server(settings, "purge", wanted.model_dump(exclude_none=True))
    return {"matched": body["matched"], "purged": body["purged"]}
