"""Numbers in columns, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

Line = tuple[str, tuple[str, ...]]  # a name, and its cells
_WIDTH = 11  # letters of a column


def text_table(head: Line, lines: Sequence[Line]) -> str:
    """Return the lines below their head: names to the left, cells to the right."""
    every = [head, *lines]
    width = max(len(name) for name, _ in every)
    return "\n".join(
        f"{name:{width}}" + "".join(f"{cell:>{_WIDTH}}" for cell in cells) for name, cells in every
    )
