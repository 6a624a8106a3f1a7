"""What crosses the proxy in headers, each way, and what our own headers say. Pure.

Header lists are (name, value) pairs of bytes as the server and the upstream give them: request
names are in lower case already, answer names come in any case.
"""

from __future__ import annotations

import math
import random
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.auth import CREDENTIALS

HeaderList = Sequence[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    [b"", *b"connection keep-alive te trailer transfer-encoding upgrade".split()]
)
_NEVER_UP = (
    _HOP_BY_HOP
    | frozenset(CREDENTIALS)
    | frozenset(
        b"x-goog-api-key host cookie content-length expect http2-settings x-request-id".split()
    )
)
_NEVER_UP_CACHEABLE = _NEVER_UP | {b"accept-encoding", b"cache-control"}
# Alt-Svc names ports of the upstream's host, which are not ours.
_NEVER_DOWN = _HOP_BY_HOP | {b"set-cookie", b"set-cookie2", b"alt-svc"}
_NEVER_DOWN_CACHEABLE = _NEVER_DOWN | frozenset(
    b"age cache-status content-length date x-request-id".split()
)
_NEVER_PREFIXES = (b"x-nearhit-", b"proxy-")
_TOKEN = b"!#$%&'*+-.^_`|~" + (string.digits + string.ascii_letters).encode()
_TEXT = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller brings to be known by upstream."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # as the client sent them
    tenant_key: str | None = field(default=None, repr=False)  # goes before the upstream's own
    keys_configured: bool = False  # whether the client's key is one of ours

    def key(self, upstream_key: str | None) -> str | None:
        """Return which key of ours goes upstream; None: none, or the client's own headers do."""
        if self.headers and not self.keys_configured:
            return None
        return self.tenant_key or upstream_key


NO_CREDENTIAL = Credential()


def credential(
    headers: HeaderList, *, tenant_key: str | None = None, keys_configured: bool
) -> Credential:
    """Return the credential in a request's headers."""
    sent = [(name.decode("ascii"), _text(v)) for name, v in headers if name in CREDENTIALS]
    return Credential(tuple(sent), tenant_key, keys_configured)


def credential_headers(credential: Credential, upstream_key: str | None) -> list[tuple[str, str]]:
    """Return the headers that authenticate a call to an upstream that has this key of its own.

    With keys configured here the client's key stays here, and the tenant's or the upstream's own
    takes its place in the header that the client used. With none configured the client's own
    credentials go on, or the upstream's own key if it sent none.
    """
    key = credential.key(upstream_key)
    if key is None:
        return [] if credential.keys_configured else list(credential.headers)
    names = [name for name, _ in credential.headers]
    if "x-api-key" in names and "authorization" not in names:
        return [("x-api-key", key)]
    return [("authorization", f"Bearer {key}")]


def upstream_headers(
    headers: HeaderList, request_id: str, *, cacheable: bool
) -> list[tuple[str, str]]:
    """Return the request headers that go upstream, as text, credentials and length left out.

    On a cacheable route Cache-Control is ours and has been obeyed, and the answer must come
    unencoded so that it can be read; elsewhere the client's own wishes go on.
    """
    passing = _passing(headers, _NEVER_UP_CACHEABLE if cacheable else _NEVER_UP)
    try:
        sent = [(name.decode(), value.decode()) for name, value in passing]
    except UnicodeDecodeError:
        sent = [(name.decode(), _text(value)) for name, value in passing]
    sent.append(("x-request-id", request_id))
    if cacheable:
        sent.append(("accept-encoding", "identity"))
    return sent


def headers_of_another(headers: HeaderList, request_id: str) -> list[tuple[str, str]]:
    """Return the headers of a call that is like the client's, but another one.

    With the key that makes a repeated call the same call, either would bring the other's answer.
    """
    sent = upstream_headers(headers, request_id, cacheable=True)
    return [header for header in sent if header[0] != "idempotency-key"]


def client_headers(headers: HeaderList, *, cacheable: bool) -> list[tuple[bytes, bytes]]:
    """Return the upstream's answer headers that go down to the client, names in lower case.

    On a cacheable route those that we write ourselves are left out as well.
    """
    lowered = [(name.lower(), value) for name, value in headers]
    return _passing(lowered, _NEVER_DOWN_CACHEABLE if cacheable else _NEVER_DOWN)


def _passing(headers: HeaderList, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    for name, value in headers:
        if name == b"connection":
            named = _members(value.lower())
            if named != [b"keep-alive"]:
                dropped = dropped.union(named)
    passing = [
        header
        for header in headers
        if header[0] not in dropped and not header[0].startswith(_NEVER_PREFIXES)
    ]
    # Both HTTP parsers refuse unsafe bytes already; that must not be all that stands between
    # a header and the next one. One look at all of them together is the usual case.
    names, values = b"".join([n for n, _ in passing]), b"".join([v for _, v in passing])
    if names.translate(None, _TOKEN) or values.translate(None, _TEXT):
        return [(name, value) for name, value in passing if _safe(name, value)]
    return passing


def _safe(name: bytes, value: bytes) -> bool:
    return bool(name) and not name.translate(None, _TOKEN) and not value.translate(None, _TEXT)


def _members(value: bytes) -> list[bytes]:
    return [member for raw in value.split(b",") if (member := raw.strip())]


def _text(value: bytes) -> str:
    # The HTTP client writes text as UTF-8: this gives back the same bytes if they were that.
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


# -- ids

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def request_id(sent: bytes | None) -> str:
    """Return the client's own X-Request-Id if it is harmless, else a new one."""
    if sent is not None and _REQUEST_ID.fullmatch(sent) is not None:
        return sent.decode("ascii")
    return f"req-{random.getrandbits(96):024x}"  # unique is enough: an id is no secret


# -- the client's wishes


@dataclass(frozen=True, slots=True)
class CacheControl:
    """What a request's Cache-Control asks for, in the words of RFC 9111."""

    no_store: bool = False
    no_cache: bool = False
    max_age: int | None = None  # seconds
    only_if_cached: bool = False


NO_WISHES = CacheControl()
_DIRECTIVE = re.compile(rb'([^\s,;="]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s,]*))?')
_LONGEST_AGE = 2**31


def parse_cache_control(values: Sequence[bytes]) -> CacheControl:
    """Read every Cache-Control header of a request; unknown directives are ignored.

    Whatever is unclear tightens: an unreadable max-age (negative, quoted, missing or no whole
    number) asks for a fresh answer, of two the smaller counts, and an argument on a directive
    that takes none changes nothing.
    """
    if not values:
        return NO_WISHES
    names: set[bytes] = set()
    ages: list[bytes] = []
    for value in values:
        for found in _DIRECTIVE.finditer(value.lower()):
            names.add(found[1])
            if found[1] == b"max-age":
                ages.append(found[2] or b"")
    readable = all(age.isdigit() for age in ages)
    return CacheControl(
        no_store=b"no-store" in names,
        no_cache=b"no-cache" in names or not readable,
        max_age=min(_seconds(age) for age in ages) if ages and readable else None,
        only_if_cached=b"only-if-cached" in names,
    )


def _seconds(digits: bytes) -> int:
    digits = digits.lstrip(b"0")  # int() refuses very long ones
    return min(int(digits or b"0"), _LONGEST_AGE) if len(digits) < 20 else _LONGEST_AGE


_NUMBER = re.compile(rb"[+-]?(?:\d{1,20}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?")


def parse_threshold(values: Sequence[bytes]) -> float | None:
    """Read X-Nearhit-Threshold, a cosine; of several the highest. Raise ValueError if bad."""
    highest: float | None = None
    for value in values:
        number = float(value) if _NUMBER.fullmatch(value.strip()) else math.nan
        if not -1.0 <= number <= 1.0:
            shown = _shown(value)
            raise ValueError(f"X-Nearhit-Threshold must be a cosine from -1 to 1, not {shown}")
        highest = number if highest is None else max(highest, number)
    return highest


MAX_TAGS = 16
_TAG = re.compile(rb"[A-Za-z0-9._:/@+-]{1,64}")


def parse_tags(values: Sequence[bytes]) -> tuple[str, ...]:
    """Read X-Nearhit-Tags, in order, each once. Raise ValueError naming what is not allowed."""
    tags: dict[str, None] = {}
    for member in _members(b",".join(values)):
        if _TAG.fullmatch(member) is None:
            raise ValueError(
                "a tag of X-Nearhit-Tags is 1 to 64 characters of A-Z a-z 0-9 . _ : / @ + -, "
                f"not {_shown(member)}"
            )
        tags[member.decode("ascii")] = None
        if len(tags) > MAX_TAGS:
            raise ValueError(f"X-Nearhit-Tags has more than {MAX_TAGS} tags")
    return tuple(tags)


def _shown(value: bytes) -> str:
    text = value.decode("ascii", "backslashreplace")
    return f'"{text[:64]}"' + ("..." if len(text) > 64 else "")


# -- Cache-Status (RFC 9211)

MISS = b"nearhit; fwd=miss"
COLLAPSED = b"nearhit; fwd=miss; collapsed"
NEAR_HIT = b"nearhit; fwd=miss; detail=near-hit"
STALE = b"nearhit; fwd=stale"
REQUEST = b"nearhit; fwd=request"
BYPASS = {
    reason: f"nearhit; fwd=bypass; detail={reason}".encode()
    for reason in ("policy", "temperature", "turns", "content", "size", "overload", "fault")
}


def hit(ttl: int, detail: str) -> bytes:
    """Return the member of a hit: exact, semantic or stale-if-error (`ttl` seconds below zero)."""
    return b"nearhit; hit; ttl=%d; detail=%s" % (ttl, detail.encode("ascii"))


def cache_status(ours: bytes, upstream: HeaderList = ()) -> bytes:
    """Return the Cache-Status value: our member after those that the upstream's answer carries."""
    theirs = [v for n, v in upstream if n.lower() == b"cache-status" and _safe(b"x", v)]
    return b", ".join([*theirs, ours]) if theirs else ours
