"""What must match exactly: the entry id, the partition and the context of a request. Pure.

Everything in a body counts except the transport fields; key order and whitespace do not. Whose
request it is comes first: a tenant, a tenant's user, or everybody who shares. So no two of these
can ever share an id, a partition or a flight.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

import orjson

from proxy.auth import Caller
from proxy.wire.base import TRANSPORT_FIELDS, InvalidRequest, Json, Question
from proxy.wire.numbers import has_digits
from store.entry import EntryId, PartitionKey

# Request headers that change what the upstream answers.
ANSWER_HEADERS = (
    b"anthropic-beta",
    b"anthropic-version",
    b"openai-beta",
    b"openai-organization",
    b"openai-project",
)
# Raised where what a route has stored must not be served any more.
_EDITIONS = {"/v1/responses": 2}  # before 2, answers were stored with what they echo of who asked
_UNCOUNTED = TRANSPORT_FIELDS | {"model"}  # the model counts in the ground, as its group
_LONG = 16  # digits in a row that may not survive a 64-bit integer or double
_LONG_RUN = re.compile(rf"\d{{{_LONG},}}")
_KEPT = "\x00number"  # the key under which its text is kept
_LONGEST_USER = 256  # characters


class InvalidJson(ValueError):
    """The body is not a JSON object in UTF-8."""


def parse_body(raw: bytes) -> dict[str, Json]:
    """Return the body as identity sees it; raise InvalidJson.

    Numbers too long for 64 bits are kept as text, so that two different ones never collapse;
    `number_of` reads them.
    """
    try:
        body = orjson.loads(raw)
        if has_digits(raw, _LONG):
            body = json.loads(raw, parse_int=_exact_int, parse_float=_exact_float)
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidJson("the body must be a JSON object")
    return body


def _exact_int(digits: str) -> Any:
    return {_KEPT: digits} if _LONG_RUN.search(digits) else int(digits)


def _exact_float(digits: str) -> Any:
    return {_KEPT: digits} if _LONG_RUN.search(digits) else float(digits)


def number_of(value: Json) -> float | None:
    """Return a value of a parsed body as a number, however many digits it has; else None."""
    if isinstance(value, dict) and value.keys() == {_KEPT}:
        value = value[_KEPT]
    elif not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except (ValueError, TypeError):  # a client may have sent an object with this very key
        return None


def _canonical(value: Json) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:  # orjson reads deeper nesting than it writes
        raise InvalidJson(f"the body cannot be read: {error}") from None


# Whose answers may stand in for each other: a text for a model by itself, a tuple for a group. A
# model may be called what a group is called; they stay apart.
Group = str | tuple[str]


def model_group(model: str, groups: Mapping[str, tuple[str, ...]]) -> Group:
    """Return the group whose patterns name this model, or the model itself."""
    for group, patterns in groups.items():
        if any(fnmatchcase(model, pattern) for pattern in patterns):
            return (group,)
    return model


def ground_of(
    *,
    tenant: str,
    user: str = "",
    route: str,
    query_string: bytes,
    model: Group,
    headers: Mapping[bytes, bytes],
) -> bytes:
    """Return the part of every key that is not the body: whose request it is, and to what.

    `user` is what `user_of` gave where answers are kept for each user, else "". `headers` are all
    request headers, names in lower case; only ANSWER_HEADERS are read.
    """
    # A text for a tenant, a list for a user of one: whatever they are called, they stay apart.
    whose = [tenant, user] if user else tenant
    return _ground(whose, route, query_string, model, headers)


def shared_ground_of(
    *, route: str, query_string: bytes, model: Group, headers: Mapping[bytes, bytes]
) -> bytes:
    """Return the ground that all tenants share; it is never that of a tenant or a user."""
    return _ground(None, route, query_string, model, headers)


def _ground(
    whose: Json, route: str, query_string: bytes, model: Group, headers: Mapping[bytes, bytes]
) -> bytes:
    answer_headers = [
        headers[n].decode("latin-1") if n in headers else None for n in ANSWER_HEADERS
    ]
    query = query_string.decode("latin-1")
    edition = _EDITIONS.get(route)
    where = route if edition is None else [route, edition]
    return _canonical([whose, where, query, model, answer_headers])


class UserNotAllowed(Exception):
    """The key may not say who its end user is."""


def user_of(
    caller: Caller, body: dict[str, Json], headers: Mapping[bytes, bytes], *, route: str
) -> str:
    """Return a digest that tells a tenant's end users apart, or "" if the request names none.

    X-Nearhit-User wins, from a key that may set it; else the body's `user` counts, on Anthropic's
    route `metadata.user_id`. The two never meet: who may only write a body cannot pose as a user
    whom a trusted key named. Raise UserNotAllowed, or InvalidRequest for a name that is too long.
    """
    sent = headers.get(b"x-nearhit-user")
    if sent is not None:
        if not caller.may_set_user:
            raise UserNotAllowed(
                "X-Nearhit-User: this key may not name the end user; the operator can allow it"
                " with may_set_user"
            )
        name = sent.decode("utf-8", "surrogateescape")
        if name.strip():
            return _user_digest(caller, "header", name)
    if route == "/v1/messages":
        metadata = body.get("metadata")
        named = metadata.get("user_id") if isinstance(metadata, dict) else None
        param = "metadata.user_id"
    else:
        named, param = body.get("user"), "user"
    if isinstance(named, str) and named.strip():
        return _user_digest(caller, "body", named, param)
    return ""


def asker_of(
    caller: Caller, body: dict[str, Json], headers: Mapping[bytes, bytes], *, route: str
) -> str:
    """Return a digest of who asks: the end user of `user_of`, else the key, else the tenant.

    Never "". Whoever gives a name that is too long to be one is nobody else, and not the key
    either. Raise UserNotAllowed.
    """
    long = ""
    try:
        named = user_of(caller, body, headers, route=route)
    except InvalidRequest:
        named, long = "", json.dumps([body.get("user"), body.get("metadata")])
    if named:
        return named
    told = json.dumps([caller.tenant, caller.key_id, long])
    return sha256(b"asker\n" + told.encode()).hexdigest()[:32]


def _user_digest(caller: Caller, source: str, name: str, param: str | None = None) -> str:
    if len(name) > _LONGEST_USER:
        where = param or "X-Nearhit-User"
        raise InvalidRequest(f"{where}: longer than {_LONGEST_USER} characters", param)
    told = json.dumps([caller.tenant, source, name])  # every text is told apart, surrogates too
    return sha256(b"user\n" + told.encode()).hexdigest()[:32]


def counted(body: dict[str, Json]) -> bytes:
    """Return what of a body counts in its exact key, in canonical form; raise InvalidJson."""
    return _canonical({k: v for k, v in body.items() if k not in _UNCOUNTED})


def entry_id(ground: bytes, counted: bytes) -> EntryId:
    """Return the exact key of a request: 128 bits of SHA-256 as hex."""
    return EntryId(sha256(b"entry\n" + ground + b"\n" + counted).hexdigest()[:32])


def flight_key(id: EntryId, apart: dict[str, Json]) -> str:
    """Return the key of an upstream call that is shared by whoever says the same of `apart`."""
    if not apart:
        return id
    told = sha256(b"flight\n" + _canonical(apart)).hexdigest()[:32]
    return f"{id}/{told}"


def partition_key(ground: bytes, question: Question) -> PartitionKey:
    """Return what may be compared by meaning with this question: same request, same past.

    Of the past all but what users said, which is compared turn by turn (store/decision/context.py).
    """
    skeleton = counted(question.skeleton)
    partition = sha256(b"partition\n" + ground + b"\n" + skeleton).hexdigest()[:32]
    context = sha256(b"context without user texts\n" + _canonical(question.context)).hexdigest()[
        :32
    ]
    return PartitionKey(partition, context if question.context else "")
