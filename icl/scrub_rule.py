"""One rule of scrubbing: what to look for, and what to put in its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple


class Rule(NamedTuple):
    """An expression with its replacement, which may decide to leave what was found."""

    sign: str  # a text without it cannot match; "" if there is no such sign
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str]

    def apply(self, text: str) -> str:
        """Return the text with everything replaced that the rule finds."""
        return self.pattern.sub(self.replacement, text) if self.sign in text else text
