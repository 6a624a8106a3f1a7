"""What the commands share: their options, and reading the configuration that they name."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.evaluation.jsonl import RowsInvalid
from proxy.key_variables import is_sendable, key_in
from proxy.settings import ConfigInvalid, Settings, load_settings, upstream_of_openai
from proxy.stored import holds_anything, open_documents
from store.errors import PolicyInvalid, StoreError
from store.policy import PolicyBook
from store.policy_history import Seed, read_seed, read_version, takes_over

# Control characters, halves of surrogate pairs, other line ends, marks of direction.
_STEERING = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="NEARHIT_CONFIG", help="YAML file; unset: defaults."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def harmless(text: str) -> str:
    """Return a client's text as a terminal may show it: what would steer the terminal is spelt out.

    A question can hold escape sequences, which hide lines or write into the clipboard, and marks
    that turn the direction of what follows. Line breaks and tabs stay.
    """
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str, most: int) -> str:
    """Return the beginning of a client's text, harmless and in one line."""
    return harmless(" ".join(text.split())[:most])


@contextmanager
def refusals() -> Iterator[None]:
    """Turn refused input into its lines on stderr and exit status 2, other faults into 1."""
    try:
        yield
    except (ConfigInvalid, PolicyInvalid, RowsInvalid) as refused:
        for fault in refused.faults:
            typer.echo(fault, err=True)
        raise typer.Exit(2) from None
    except StoreError as error:
        typer.echo(f"nearhit: {error}", err=True)
        raise typer.Exit(1) from None


def load(config: Path | None, **server: Any) -> tuple[Settings, Seed]:
    """Read config and policies; raise ConfigInvalid with the faults of both."""
    given = {key: value for key, value in server.items() if value is not None}
    settings = load_settings(config, **given)
    faults = _unfit_keys(settings, config)
    try:
        seed = read_seed(policies_file(settings, config))
    except PolicyInvalid as refused:
        raise ConfigInvalid(faults + refused.faults) from None
    faults += _unknown_categories(settings, seed, config)
    if faults:
        raise ConfigInvalid(faults)
    return settings, seed


def _unknown_categories(settings: Settings, seed: Seed, config: Path | None) -> list[str]:
    """Return a line for each category that a key names and that there will not be at a start."""
    named = [(key.tenant, name) for key in settings.auth.keys for name in key.categories or ()]
    known = list(seed.book.names)
    if any(name not in known for _, name in named):
        # It may have been added over the admin API. A store that cannot be asked knows of none.
        with suppress(StoreError, PolicyInvalid):
            book = asyncio.run(policies_in_force(settings, seed))
            known += [name for name in book.names if name not in known]
    where = f"{config or 'environment'}: auth.keys"
    return [
        f"{where}.{tenant}.categories: {name!r} is not allowed; allowed: {', '.join(known)}"
        for tenant, name in named
        if name not in known
    ]


def _unfit_keys(settings: Settings, config: Path | None) -> list[str]:
    """Return a line for each variable with a key that nobody can send, and warn of unset ones.

    Raises ConfigInvalid for what stands in for configured upstreams.
    """
    openai = None if settings.upstreams else upstream_of_openai(os.environ)
    upstreams = settings.upstreams if openai is None else [openai]
    named = [(f"upstreams.{u.name}.api_key_env", u.api_key_env) for u in upstreams]
    named += [
        (f"auth.keys.{k.tenant}.upstream_key_env", k.upstream_key_env) for k in settings.auth.keys
    ]
    named.append(("encoder.api_key_env", settings.encoder.api_key_env))
    faults = []
    for where, variable in named:
        if variable is None:
            continue
        key = key_in(os.environ, variable)
        if key is None:
            # No fault: a local upstream may need none, and without keys here clients bring theirs.
            # What is no name may be the key itself, pasted by mistake: it must not reach a log.
            told = variable if variable.isidentifier() else "(hidden: this is no variable's name)"
            typer.echo(f"warning: {where}: the variable {told} is not set", err=True)
        elif not is_sendable(key):
            faults.append(
                f"{config or 'environment'}: {where}: the value of {variable} (hidden) is not"
                " allowed; allowed: printable ASCII, in one line"
            )
    return faults


def policies_file(settings: Settings, config: Path | None) -> Path | None:
    """Return where the policies lie: a relative path is beside the config file."""
    if settings.policies is None or settings.policies.is_absolute() or config is None:
        return settings.policies
    return config.parent / settings.policies


async def policies_in_force(settings: Settings, seed: Seed) -> PolicyBook:
    """Return the newest version that is stored, or what the seed would make it."""
    if not holds_anything(settings):
        return seed.book
    async with open_documents(settings, read_only=True) as store:
        latest = await store.records.latest_version()
    return seed.book if latest is None or takes_over(seed, latest) else read_version(latest)
