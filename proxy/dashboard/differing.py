"""Two texts side by side, with the words in which they differ. Pure."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

_WORD = re.compile(r"\w+|[^\w\s]|\s+")
_MOST = 400  # words of one text that are compared; what follows is shown as it is


class Run(NamedTuple):
    """A stretch of a text."""

    text: str
    differs: bool


def differing(a: str, b: str) -> tuple[list[Run], list[Run]]:
    """Return both texts in runs; what differs by more than its capitals is marked."""
    ours, theirs = _WORD.findall(a), _WORD.findall(b)
    matcher = SequenceMatcher(
        None,
        [word.casefold() for word in ours[:_MOST]],
        [word.casefold() for word in theirs[:_MOST]],
        autojunk=False,
    )
    left: list[Run] = []
    right: list[Run] = []
    for kind, i, j, k, m in matcher.get_opcodes():
        for runs, text in ((left, "".join(ours[i:j])), (right, "".join(theirs[k:m]))):
            if text:
                runs.append(Run(text, kind != "equal" and bool(text.strip())))
    for runs, rest in ((left, ours[_MOST:]), (right, theirs[_MOST:])):
        if rest:
            runs.append(Run("".join(rest), False))
    return left, right
