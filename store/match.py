"""Match rules: which requests belong to a category by what can be compared exactly. Pure.

Regular expressions are RE2's: a search takes time in proportion to the text, so no text that a
client sends can hold the event loop up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import re2

MAX_PATTERN = 1024  # characters
_PROGRAM_BYTES = 1 << 20  # that a compiled pattern may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What of a request the rules look at."""

    model: str
    tenant: str
    path: str
    headers: Mapping[bytes, bytes]  # names in lower case
    text: bytes  # UTF-8 of the last user text; of the whole body where there is no such text
    said: tuple[bytes, ...] = ()  # of all that users said before


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRule:
    """One rule: every condition that is set has to hold. Globs are case-sensitive."""

    model: str | None = None  # glob
    tenant: str | None = None  # glob
    path: str | None = None  # glob, as /v1/chat/*
    header: tuple[tuple[str, str], ...] = ()  # (name in lower case, glob of its value)
    regex: str | None = None  # RE2, searched in the query
    _compiled: Any = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.regex is not None:
            object.__setattr__(self, "_compiled", compile_regex(self.regex))

    def matches(self, traits: Traits) -> bool:
        """Whether the request has everything that the rule asks for."""
        return self._holds_otherwise(traits) and (
            self._compiled is None or self._compiled.search(traits.text) is not None
        )

    def matched_before(self, traits: Traits) -> bool:
        """Whether it has, in something that users said before: each text is searched by itself."""
        if self._compiled is None or not traits.said or not self._holds_otherwise(traits):
            return False
        return any(self._compiled.search(text) is not None for text in traits.said)

    def _holds_otherwise(self, traits: Traits) -> bool:
        return (
            _fits(self.model, traits.model)
            and _fits(self.tenant, traits.tenant)
            and _fits(self.path, traits.path)
            and all(
                fnmatchcase(traits.headers.get(name.encode(), b"").decode("latin-1"), pattern)
                and name.encode() in traits.headers
                for name, pattern in self.header
            )
        )


def _fits(pattern: str | None, value: str) -> bool:
    return pattern is None or fnmatchcase(value, pattern)


def compile_regex(pattern: str) -> Any:
    """Return the compiled pattern; raise ValueError saying what is wrong with it."""
    if not pattern or len(pattern) > MAX_PATTERN:
        raise ValueError(f"an RE2 expression of 1 to {MAX_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PROGRAM_BYTES
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as error:
        said = error.args[0] if error.args else "it does not compile"
        said = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        raise ValueError(f"an RE2 expression ({said})") from None
