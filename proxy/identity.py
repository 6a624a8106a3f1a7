"""What must match exactly: the entry id, the partition and the context of a request. Pure.

Everything in a body counts except the transport fields; key order and whitespace do not. The
tenant is hashed first, so that no two tenants can ever share an id, a partition or a flight.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

import orjson

from proxy.wire.base import TRANSPORT_FIELDS, Json, Question
from store.entry import EntryId, PartitionKey

# Request headers that change what the upstream answers.
ANSWER_HEADERS = (
    b"anthropic-beta",
    b"anthropic-version",
    b"openai-beta",
    b"openai-organization",
    b"openai-project",
)
_UNCOUNTED = TRANSPORT_FIELDS | {"model"}  # the model counts in the ground, as its group
# A run of digits that may not survive a 64-bit integer or double.
_LONG_NUMBER = re.compile(rb"\d{16,}")
_LONG_RUN = re.compile(r"\d{16,}")


class InvalidJson(ValueError):
    """The body is not a JSON object in UTF-8."""


def parse_body(raw: bytes) -> dict[str, Json]:
    """Return the body as identity sees it; raise InvalidJson.

    Numbers too long for 64 bits are kept as text, so that two different ones never collapse.
    """
    try:
        body = orjson.loads(raw)
        if _LONG_NUMBER.search(raw):
            body = json.loads(raw, parse_int=_exact_int, parse_float=_exact_float)
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidJson("the body must be a JSON object")
    return body


def _exact_int(digits: str) -> Any:
    return {"\x00number": digits} if _LONG_RUN.search(digits) else int(digits)


def _exact_float(digits: str) -> Any:
    return {"\x00number": digits} if _LONG_RUN.search(digits) else float(digits)


def _canonical(value: Json) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:  # orjson reads deeper nesting than it writes
        raise InvalidJson(f"the body cannot be read: {error}") from None


def model_group(model: str, groups: Mapping[str, tuple[str, ...]]) -> str:
    """Return the group whose patterns name this model, or the model itself."""
    for group, patterns in groups.items():
        if any(fnmatchcase(model, pattern) for pattern in patterns):
            return group
    return model


def ground_of(
    *, tenant: str, route: str, query_string: bytes, model: str, headers: Mapping[bytes, bytes]
) -> bytes:
    """Return the part of every key that is not the body: whose request it is, and to what.

    `headers` are all request headers, names in lower case; only ANSWER_HEADERS are read.
    """
    answer_headers = [
        headers[n].decode("latin-1") if n in headers else None for n in ANSWER_HEADERS
    ]
    query = query_string.decode("latin-1")
    return _canonical([tenant, route, query, model, answer_headers])


def counted(body: dict[str, Json]) -> bytes:
    """Return what of a body counts in its exact key, in canonical form; raise InvalidJson."""
    return _canonical({k: v for k, v in body.items() if k not in _UNCOUNTED})


def entry_id(ground: bytes, counted: bytes) -> EntryId:
    """Return the exact key of a request: 128 bits of SHA-256 as hex."""
    return EntryId(sha256(b"entry\n" + ground + b"\n" + counted).hexdigest()[:32])


def partition_key(ground: bytes, question: Question) -> PartitionKey:
    """Return what may be compared by meaning with this question: same request, same past."""
    skeleton = counted(question.skeleton)
    partition = sha256(b"partition\n" + ground + b"\n" + skeleton).hexdigest()[:32]
    context = sha256(b"context\n" + _canonical(question.context)).hexdigest()[:32]
    return PartitionKey(partition, context if question.context else "")
