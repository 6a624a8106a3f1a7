"""API keys out of variables of the environment, as files and terminals put them there."""

from __future__ import annotations

from collections.abc import Mapping


def key_in(environ: Mapping[str, str], variable: str | None) -> str | None:
    """Return the key that a variable holds; None: there is none, an empty one included.

    White space around it is none of it: `KEY=$(cat file)` keeps a carriage return, and a secret of
    an orchestrator its line break, which no header can carry.
    """
    return (environ.get(variable, "").strip() or None) if variable else None


def is_sendable(key: str) -> bool:
    """Whether a header can carry a key: printable ASCII, as all of them are."""
    return key.isascii() and key.isprintable()
