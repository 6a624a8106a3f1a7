"""A stream of queries, each with the name of the answer that it wants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from proxy.evaluation.jsonl import Asked, Line, RowsInvalid, lines_of

STEP = 1.0  # seconds between two queries that do not say when they come
LATEST = 1e11  # seconds, some 3,000 years: a stream in milliseconds since 1970 is beyond that
TOKENS_OUT = 250.0  # of an answer whose length is not known
TOKENS_A_WORD = 4 / 3


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One query. Two queries with the same `answer_id` may be given the same answer."""

    question: Asked
    answer_id: str
    t: float  # seconds since the stream began
    tokens_in: float
    tokens_out: float


def read_stream(file: Path) -> list[StreamRow]:
    """Return a file's queries in order; raise RowsInvalid.

    A row is `{"q", "answer_id"}`, with `context` for a question that follows others (as in pairs),
    `t` in seconds, never less than the row before's, `tokens_in` and `tokens_out`.
    """
    rows: list[StreamRow] = []
    for line in lines_of(file):
        rows.append(_row(line, rows[-1].t if rows else None))
    if not rows:
        raise RowsInvalid(f"{file}: holds no rows; allowed: at least one")
    return rows


def _row(line: Line, before: float | None) -> StreamRow:
    text = line.text("q")
    answer_id = line.fields.get("answer_id")
    if isinstance(answer_id, bool) or not isinstance(answer_id, str | int) or answer_id == "":
        raise line.fault("answer_id", "a text or a whole number")
    t = line.number("t", 0.0 if before is None else before + STEP)
    if t > LATEST:
        raise line.fault("t", f"seconds, at most {LATEST:g}")
    if before is not None and t < before:
        raise line.fault("t", f"a number of at least {before:g}, when the row before came")
    return StreamRow(
        question=Asked(line.context("context"), text),
        answer_id=str(answer_id),
        t=t,
        tokens_in=line.number("tokens_in", len(text.split()) * TOKENS_A_WORD),
        tokens_out=line.number("tokens_out", TOKENS_OUT),
    )
