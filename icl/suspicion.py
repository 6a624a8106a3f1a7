"""Texts that must not be shown to a model as an example, because they would steer it."""

from __future__ import annotations


def suspicious(text: str) -> str | None:
    """Say why a text may not be shown as an example; None if it may."""
    return None
