"""Which request paths may go upstream, and in which form. Pure.

A path is either forwarded exactly as it came or refused. Nothing is rewritten: a path that the
upstream could read otherwise than we do is a way around the tenancy rules below.
"""

from __future__ import annotations

import re

# Nearly every path there is: plain segments that do not begin with a dot.
_PLAIN = re.compile(rb"(?:/[A-Za-z0-9_~:@!$&'()*+,=-][A-Za-z0-9_~:@!$&'()*+,=.-]*)+/?|/")
_VISIBLE = re.compile(rb"[\x21-\x7e]*")
_ESCAPE = re.compile(rb"%(?:([0-9A-Fa-f]{2})|.{0,2})")
# An escaped dot, backslash or percent sign, or a control character, has no honest use in a path.
_NEVER_ESCAPED = frozenset([0x2E, 0x5C, 0x25, 0x7F, *range(0x20)])


class PathRefused(ValueError):
    """The request target is not one that we forward; becomes a 400."""


def normalise(raw_path: bytes, query: bytes = b"") -> str:
    """Return the path with its query string, both verbatim; raise PathRefused saying what is wrong.

    `raw_path` is the path as it was sent, escapes included; `query` what followed its `?`.
    """
    if _PLAIN.fullmatch(raw_path) is None:
        _refuse_unsafe(raw_path)
    path = raw_path.decode("ascii")
    if not query:
        return path
    if _VISIBLE.fullmatch(query) is None or b"#" in query:
        raise PathRefused("the query string has a control or non-ASCII character or a #")
    return f"{path}?{query.decode('ascii')}"


def _refuse_unsafe(raw_path: bytes) -> None:
    if not raw_path.startswith(b"/"):
        raise PathRefused("the path must begin with /")
    if _VISIBLE.fullmatch(raw_path) is None:
        raise PathRefused("the path has a control or non-ASCII character")
    for forbidden in (b"\\", b"#", b"?"):
        if forbidden in raw_path:
            raise PathRefused(f"the path has a {forbidden.decode()}")
    for escape in _ESCAPE.finditer(raw_path):
        if escape[1] is None:
            raise PathRefused("the path has a % that begins no escape")
        if int(escape[1], 16) in _NEVER_ESCAPED:
            raise PathRefused(f"the path has the escape {escape[0].decode()}")
    # Some servers take an escaped slash for a slash, and "..;x" for "..": judge by both readings.
    segments = re.split(rb"/|%2[Ff]", raw_path)
    if b"" in segments[1:-1] or (len(segments) > 2 and raw_path[-3:].lower() == b"%2f"):
        raise PathRefused("the path has an empty segment")
    if any(segment.split(b";")[0] in (b".", b"..") for segment in segments):
        raise PathRefused("the path has a . or .. segment")


def passthrough_allowed(
    path: str, *, tenants: int, own_key: bool, allowed: tuple[str, ...]
) -> bool:
    """Whether an uncached path may be used.

    One upstream key shared by several tenants would let each reach the others' files, batches and
    stored responses, so they need a key of their own or a path that the operator has allowed: an
    entry of `allowed` means that path and everything below it. `path` is `normalise`d; its query
    is not looked at.
    """
    if tenants <= 1 or own_key:
        return True
    bare = path.partition("?")[0]
    return any(bare == entry or bare.startswith(entry.rstrip("/") + "/") for entry in allowed)
