"""Code inside a text: identifiers, operators, and the layout that is meaning there."""

from __future__ import annotations

import re

# Every alternative begins where a word does, so that no letter is read twice.
_IDENTIFIER = re.compile(
    r"(?<![\w-])--?[A-Za-z][\w-]*"  # flags
    r"|(?<!\w)(?:[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)+(?:\(\))?"  # dotted.names, file.ext
    r"|[A-Za-z_]\w*\(\)"
    r"|[A-Za-z0-9]*_\w+"  # snake_case
    r"|[a-z]+[A-Z]\w*"  # camelCase
    r"|[A-Za-z](?:\+\+|#))"  # C++, C#
)
_OPERATOR = re.compile(
    r"(?<![\w<>=!&|+*/-])(?:[=!]==?|[<>]=?|&&|\|\||[-+*/]=|=>|->|<<|>>|:=|=)(?![<>=&|])"
    r"|(?<=\d)\s?[+*/×÷^]\s?(?=\d)|(?<=\d\s)[-−](?=\s\d)"  # arithmetic
)
_SIGN = re.compile(r"[-+*/×÷^−=<>&|]")
# Looked for first, since most texts have neither; both find their first letter fast.
_HINT = re.compile(r"[.:>]\w|\(\)|[_+#]|-[A-Za-z]")
_CAMEL = re.compile(r"[a-z][A-Z]")
_CODE = re.compile(r"[(){}\[\]=<>;#|`*\\/@$&+^~:_]|^\s*-\s", re.MULTILINE)


def identifiers_of(text: str) -> frozenset[str]:
    """Return names that only code has, as written: snake_case, camelCase, a.b(), --flag, C++."""
    if _HINT.search(text) is None and _CAMEL.search(text) is None:
        return frozenset()
    return frozenset(
        name for name in _IDENTIFIER.findall(text) if name.count(".") == 0 or not _prose(name)
    )


def _prose(name: str) -> bool:
    """Whether a dot only lacks its space, or shortens words: "e.g", "end.The"."""
    parts = name.split(".")
    return all(len(part) == 1 for part in parts) or (
        parts[-1][:1].isupper() and parts[0].islower() and len(parts) == 2
    )


def operators_of(text: str) -> tuple[str, ...]:
    """Return the operators of a text in order of the alphabet."""
    if _SIGN.search(text) is None:
        return ()
    return tuple(sorted(sign.strip() for sign in _OPERATOR.findall(text)))


def layout_of(text: str) -> tuple[str, ...]:
    """Return how far each line is indented; () for one line and for prose."""
    if "\n" not in text and "\r" not in text:
        return ()
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or _CODE.search(text) is None:
        return ()
    return tuple(line[: len(line) - len(line.lstrip())] for line in lines)
