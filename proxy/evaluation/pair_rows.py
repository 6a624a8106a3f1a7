"""Labelled pairs of questions, and which rows belong together when some are held out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embed.held_out import components
from proxy.evaluation.jsonl import Asked, Line, RowsInvalid, lines_of


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two questions, and whether one answer does for both."""

    file: str  # as it was given
    place: str  # as in "pairs.jsonl:7"
    q1: Asked
    q2: Asked
    label: int  # 1: the answer to q1 answers q2; 0: it does not


def read_pairs(file: Path) -> list[PairRow]:
    """Return a file's rows, one at least; raise RowsInvalid.

    A row is `{"q1", "q2", "label"}`, with `context1` and `context2` for questions that follow
    others; further fields are ignored.
    """
    rows = [_row(str(file), line) for line in lines_of(file)]
    if not rows:
        raise RowsInvalid(f"{file}: holds no rows; allowed: at least one")
    return rows


def _row(file: str, line: Line) -> PairRow:
    label = line.fields.get("label")
    if isinstance(label, bool) or label not in (0, 1):
        raise line.fault("label", "0 or 1")
    return PairRow(
        file,
        line.place,
        Asked(line.context("context1"), line.text("q1")),
        Asked(line.context("context2"), line.text("q2")),
        int(label),
    )


def folds_of(rows: Sequence[PairRow], folds: int) -> list[int]:
    """Return each row's fold, 0 to folds - 1: no text of one fold occurs in another.

    A text counts whatever its context. The largest groups are placed first, each in the fold that
    has the fewest rows; rows keep their fold when the same rows come again in the same order.
    """
    groups = components([(row.q1.text, row.q2.text) for row in rows])
    members: defaultdict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    placed = [0] * len(rows)
    sizes = [0] * folds
    for group in sorted(members, key=lambda g: (-len(members[g]), g)):
        fold = sizes.index(min(sizes))
        sizes[fold] += len(members[group])
        for place in members[group]:
            placed[place] = fold
    return placed
