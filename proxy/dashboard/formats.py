"""How numbers and times are written on pages. Pure; every function is a template's filter."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

NOTHING = "–"  # where there is no number yet


def count(number: float | None) -> str:
    """Return a whole number with its thousands apart."""
    return NOTHING if number is None else f"{number:,.0f}".replace(",", "\u202f")


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share of 1 in percent."""
    return NOTHING if share is None else f"{100 * share:.{digits}f}\u202f%"


def size(bytes: float | None) -> str:
    """Return bytes in the unit that suits them."""
    if bytes is None:
        return NOTHING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if bytes < 1024 or unit == "GiB":
            return f"{bytes:.0f}\u202f{unit}" if unit == "B" else f"{bytes:.1f}\u202f{unit}"
        bytes /= 1024
    raise AssertionError("unreachable")


def seconds(span: float | None) -> str:
    """Return a span of seconds in the unit that suits it."""
    if span is None:
        return NOTHING
    if span < 0.001:
        return f"{span * 1e6:.0f}\u202fµs"
    if span < 1:
        return f"{span * 1000:.3g}\u202fms"
    if span < 120:
        return f"{span:.3g}\u202fs"
    if span < 7200:
        return f"{span / 60:.0f}\u202fmin"
    if span < 172_800:
        return f"{span / 3600:.1f}\u202fh"
    return f"{span / 86_400:.1f}\u202fdays"


def money(amount: float | None) -> str:
    """Return an amount in the currency of the prices."""
    if amount is None:
        return NOTHING
    return f"{amount:,.2f}".replace(",", "\u202f") if abs(amount) >= 1 else f"{amount:.4f}"


def cosine(similarity: float | None) -> str:
    """Return a cosine, or a probability, with three digits; below 1 it never reads as 1."""
    if similarity is None:
        return NOTHING
    if 0.9995 <= similarity < 1:
        return f"{math.floor(similarity * 1e4) / 1e4:.4f}"
    return f"{similarity:.3f}"


def when(moment: datetime | str) -> str:
    """Return a moment, or its ISO form, to the second in UTC."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def ago(moment: datetime | str, now: datetime) -> str:
    """Return how long ago a moment was."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    passed = (now - moment).total_seconds()
    return "just now" if passed < 1 else f"{seconds(round(passed))} ago"


FILTERS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (count, percent, size, seconds, money, cosine, when, ago)
}
