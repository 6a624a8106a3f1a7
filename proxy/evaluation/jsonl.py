"""Rows of a JSONL file, each with its place, so that a fault can name it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson


class RowsInvalid(Exception):
    """A file of rows is refused; `faults` holds the line that says where and why."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.faults = [fault]


class Asked(NamedTuple):
    """A question: the last user text, and the turns before it."""

    context: tuple[str, ...]  # user and assistant in turn; empty: nothing was said before
    text: str

    @property
    def user_texts(self) -> tuple[str, ...]:
        """All that the user says in it."""
        return (*self.context[::2], self.text)


class Line(NamedTuple):
    """One row as it stands in its file."""

    place: str  # as in "pairs.jsonl:7"
    fields: Mapping[str, Any]

    def fault(self, key: str, allowed: str) -> RowsInvalid:
        """Return what to raise about a field: its place, its value and what is allowed."""
        shown = repr(self.fields[key])[:60] if key in self.fields else "nothing"
        return RowsInvalid(f"{self.place}: {key}: {shown} is not allowed; allowed: {allowed}")

    def text(self, key: str) -> str:
        """Return a field that must be a text with something in it."""
        value = self.fields.get(key)
        if not isinstance(value, str) or not value or value.isspace():
            raise self.fault(key, "a text that is not blank")
        return value

    def context(self, key: str) -> tuple[str, ...]:
        """Return a field's earlier turns, user and assistant in turn; absent: none.

        The list may begin with a title, which is not part of the conversation. It ends with the
        assistant's turn, so an odd number of texts has a title.
        """
        value = self.fields.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(turn, str) for turn in value):
            raise self.fault(key, "a list of texts: [title,] user, assistant, user, assistant ...")
        return tuple(value[len(value) % 2 :])

    def number(self, key: str, default: float) -> float:
        """Return a field that is a number of at least 0; `default` when it is absent."""
        value = self.fields.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise self.fault(key, "a number of at least 0")
        return float(value)


def lines_of(file: Path) -> Iterator[Line]:
    """Yield the rows of a file, blank lines left out; raise RowsInvalid."""
    try:
        raw_lines = file.read_bytes().splitlines()
    except OSError as error:
        raise RowsInvalid(f"{file}: cannot be read: {error.strerror or error}") from None
    for number, raw in enumerate(raw_lines, 1):
        if not raw.strip():
            continue
        place = f"{file}:{number}"
        try:
            fields = orjson.loads(raw)
        except ValueError as error:
            raise RowsInvalid(f"{place}: is not JSON: {error}; allowed: an object") from None
        if not isinstance(fields, dict):
            raise RowsInvalid(
                f"{place}: {type(fields).__name__} is not allowed; allowed: an object"
            )
        yield Line(place, fields)


def texts_of(file: Path) -> list[str]:
    """Return the `text` of every row; raise RowsInvalid."""
    return [line.text("text") for line in lines_of(file)]
