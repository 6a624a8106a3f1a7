"""What a stream of queries came to, window by window. Pure.

A query whose very words came before, in the same dialogue, is a *repeat*: any cache answers it, so
repeats are counted apart and are in neither the hit rate nor the realised error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from proxy.evaluation.stream_rows import StreamRow
from proxy.evaluation.text_table import text_table

PRICE_IN, PRICE_OUT = 2.5, 10.0  # dollars a million tokens, a large model's in 2025


@dataclass(frozen=True, slots=True)
class Prices:
    """What an upstream call costs, in dollars a million tokens."""

    tokens_in: float = PRICE_IN
    tokens_out: float = PRICE_OUT

    def of(self, row: StreamRow) -> float:
        """Return what answering this query costs, in dollars."""
        return (row.tokens_in * self.tokens_in + row.tokens_out * self.tokens_out) / 1e6


@dataclass(slots=True)
class Window:
    """Counts over some consecutive queries; costs in dollars."""

    queries: int = 0
    repeats: int = 0
    repeat_hits: int = 0  # repeats that got a stored answer, their own or another's
    repeat_false_hits: int = 0  # of them, a wrong one
    semantic_hits: int = 0  # queries that are no repeats and got a stored answer
    false_hits: int = 0  # of them, a wrong one
    cost: float = 0.0  # of all queries without a cache
    cost_saved: float = 0.0  # by right answers from the cache
    cost_saved_by_repeats: float = 0.0  # the repeats' share of it

    def note(self, cost: float, *, repeat: bool, hit: bool, wrong: bool) -> None:
        """Count one query; `wrong` is about a hit."""
        self.queries += 1
        self.cost += cost
        self.repeats += repeat
        if not hit:
            return
        if repeat:
            self.repeat_hits += 1
            self.repeat_false_hits += wrong
        else:
            self.semantic_hits += 1
            self.false_hits += wrong
        if not wrong:
            self.cost_saved += cost
            self.cost_saved_by_repeats += cost if repeat else 0.0

    @property
    def realised_error(self) -> float:
        """The share of the semantic hits that were wrong; 0 without any."""
        return self.false_hits / self.semantic_hits if self.semantic_hits else 0.0

    @property
    def hit_rate(self) -> float:
        """The share of the queries that are no repeats which got a stored answer; 0 of none."""
        asked = self.queries - self.repeats
        return self.semantic_hits / asked if asked else 0.0

    def as_data(self) -> dict[str, float]:
        """Return it as JSON has it."""
        return {**asdict(self), "realised_error": self.realised_error, "hit_rate": self.hit_rate}


def total(windows: Sequence[Window]) -> Window:
    """Return the windows as one."""
    whole = Window()
    for field in fields(Window):
        setattr(whole, field.name, sum(getattr(window, field.name) for window in windows))
    return whole


def table(windows: Sequence[Window]) -> str:
    """Return the windows, and all of them together, for a terminal."""
    names = (
        "queries",
        "repeats",
        "hit",
        "wrong",
        "sem. hits",
        "wrong",
        "error",
        "hit rate",
        "saved",
        "of cost",
    )
    lines = []
    upto = 0
    for window in windows:
        upto += window.queries
        lines.append((str(upto), _cells(window)))
    return text_table(("up to", names), [*lines, ("ALL", _cells(total(windows)))])


def _cells(window: Window) -> tuple[str, ...]:
    counts = (
        window.queries,
        window.repeats,
        window.repeat_hits,
        window.repeat_false_hits,
        window.semantic_hits,
        window.false_hits,
    )
    return (
        *map(str, counts),
        f"{window.realised_error:.4f}",
        f"{window.hit_rate:.4f}",
        f"${window.cost_saved:.2f}",
        f"${window.cost:.2f}",
    )
