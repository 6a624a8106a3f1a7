"""Series over time as the paths of a picture. Pure; templates/parts.html draws what comes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 480.0, 190.0, 58.0, 24.0, 8.0
_MOST_ROWS = 60  # of the table of numbers, the latest
_LEVELS = 4  # lines across, at the most five

Format = Callable[[float], str]


class Series(NamedTuple):
    """What is drawn: one value a moment, None where there is none."""

    name: str
    values: Sequence[float | None]


class Tick(NamedTuple):
    """A mark on an axis."""

    at: float
    text: str


class Line(NamedTuple):
    """A series as it is drawn; `number` from 1 chooses its colour."""

    name: str
    number: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """All that the template draws; lengths in units of the picture."""

    title: str
    summary: str  # in words, for who does not see it
    stacked: bool
    lines: tuple[Line, ...]
    levels: tuple[Tick, ...]
    times: tuple[Tick, ...]
    rows: tuple[tuple[str, ...], ...]
    width: float = WIDTH
    over: str = "Time (UTC)"  # what the values are by
    height: float = HEIGHT
    left: float = LEFT


def chart(
    title: str,
    times: Sequence[datetime] | Sequence[str],
    series: Sequence[Series],
    text: Format,
    *,
    stacked: bool = False,
    most: float | None = None,
    whole: bool = False,
    over: str = "Time (UTC)",
) -> Chart:
    """Return lines over `times`, or areas on top of each other.

    Instead of moments, `times` may be names, of rounds say; `over` says what they are.

    `text` writes a value, `most` is the top of the axis where that is known; the levels of values
    that are `whole` are whole too. Every series has as many values as there are times; with stacked
    ones None counts as 0.
    """
    tops = _stack(series) if stacked else [list(each.values) for each in series]
    known = [value for values in tops for value in values if value is not None]
    high = most if most is not None else _top(max(known, default=0.0), whole)
    across = _across(len(times))
    lines, below = [], [0.0] * len(times)
    for number, (each, values) in enumerate(zip(series, tops, strict=True), 1):
        heights = [None if v is None else _height(v, high) for v in values]
        path = _area(across, heights, below, high) if stacked else _line(across, heights)
        lines.append(Line(each.name, number, path))
        if stacked:
            below = [v or 0.0 for v in values]
    return Chart(
        title=title,
        summary=_summary(series, text),
        stacked=stacked,
        lines=tuple(lines),
        levels=tuple(
            Tick(_height(high * n / _LEVELS, high), text(high * n / _LEVELS))
            for n in range(_LEVELS + 1)
        ),
        times=_time_ticks(times, across),
        rows=_rows(times, series, text),
        over=over,
    )


def _stack(series: Sequence[Series]) -> list[list[float | None]]:
    tops: list[list[float | None]] = []
    below = [0.0] * len(series[0].values) if series else []
    for each in series:
        below = [b + (v or 0.0) for b, v in zip(below, each.values, strict=True)]
        tops.append([*below])
    return tops


def _top(value: float, whole: bool) -> float:
    return _LEVELS * max(1.0, _round_up(value / _LEVELS)) if whole else _round_up(value)


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten; 1 of nothing, or next to nothing."""
    if value < 1e-300:  # whose power of ten would be 0
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if value <= step * power * 1.0001)


def _across(moments: int) -> list[float]:
    step = (WIDTH - LEFT) / max(1, moments - 1)
    return [round(LEFT + step * number, 1) for number in range(moments)]


def _height(value: float, high: float) -> float:
    share = min(1.0, max(0.0, value / high))
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share), 1)


def _line(across: Sequence[float], heights: Sequence[float | None]) -> str:
    """Return a path that is broken off where there is no value."""
    words, drawing = [], False
    for x, y in zip(across, heights, strict=True):
        if y is not None:
            words.append(f"{'L' if drawing else 'M'}{x} {y}")
            if not drawing:
                words.append("h0.1")  # one moment alone is a dot
        drawing = y is not None
    return "".join(words)


def _area(
    across: Sequence[float],
    heights: Sequence[float | None],
    below: Sequence[float],
    high: float,
) -> str:
    if not across:
        return ""
    there = [f"{x} {y}" for x, y in zip(across, heights, strict=True)]
    back = [f"{x} {_height(v, high)}" for x, v in zip(across, below, strict=True)]
    return f"M{'L'.join(there)}L{'L'.join(reversed(back))}Z"


def _time_ticks(
    times: Sequence[datetime] | Sequence[str], across: Sequence[float]
) -> tuple[Tick, ...]:
    """Return some five moments, away from the edges, where their words would be cut off."""
    if len(times) < 2:
        return ()
    chosen = range(len(times) // 10, len(times), max(1, len(times) // 5))
    first, last = times[0], times[-1]
    days = not isinstance(first, str) and not isinstance(last, str) and (last - first).days >= 2
    form = "%b %d" if days else "%H:%M"
    return tuple(Tick(min(across[n], WIDTH - 6), _written(times[n], form)) for n in chosen)


def _written(moment: datetime | str, form: str) -> str:
    return moment if isinstance(moment, str) else moment.strftime(form)


def _rows(
    times: Sequence[datetime] | Sequence[str], series: Sequence[Series], text: Format
) -> tuple[tuple[str, ...], ...]:
    """Return the numbers, the latest first, of moments at which there was anything."""
    rows: list[tuple[str, ...]] = []
    for number in range(len(times) - 1, -1, -1):
        values = [each.values[number] for each in series]
        if any(values) and len(rows) < _MOST_ROWS:
            told = ["–" if value is None else text(value) for value in values]
            rows.append((_written(times[number], "%Y-%m-%d %H:%M"), *told))
    return tuple(rows)


def _summary(series: Sequence[Series], text: Format) -> str:
    told = []
    for each in series:
        last = next((value for value in reversed(each.values) if value is not None), None)
        told.append(f"{each.name} {'without a value' if last is None else text(last)}")
    return "the latest " + ", ".join(told) if told else "nothing yet"
