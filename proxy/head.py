"""How an upstream's answer begins: what is known before its body."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from proxy.call import HeaderList
from proxy.headers import client_headers
from proxy.upstream import UpstreamAnswer
from proxy.wire.base import TRANSPORT_FIELDS, Fields

REFUSING = (400, 422)  # statuses that may be for a field that others have not sent
CACHE_STATUS = b"cache-status"
CONTENT_ENCODING = b"content-encoding"


@dataclass(frozen=True, slots=True)
class Head:
    """How an upstream's answer begins."""

    status: int
    headers: HeaderList  # as the client may see them, without our own
    received: HeaderList  # as they came
    content_type: bytes
    length: int | None  # bytes of the body, if announced
    # Of an answer that refuses its request: what that said beside what its flight is shared for.
    # None: it is not known, or does not matter.
    refused: Fields | None = None

    @property
    def is_stream(self) -> bool:
        """Whether the body is SSE."""
        return self.content_type.lower().startswith(b"text/event-stream")

    @property
    def readable(self) -> bool:
        """Whether the body is an answer as plain bytes."""
        encoding = header_value(self.received, CONTENT_ENCODING)
        return self.status == 200 and encoding.lower() in (b"", b"identity")


def head_of(answer: UpstreamAnswer) -> Head:
    """Return how this answer begins."""
    length = header_value(answer.headers, b"content-length")
    return Head(
        answer.status,
        client_headers(answer.headers, cacheable=True),
        answer.headers,
        header_value(answer.headers, b"content-type"),
        int(length) if length.isdigit() else None,
    )


def transport_of(body: Fields) -> Fields:
    """Return what a request says in fields that keep nobody from sharing its call."""
    return {field: body[field] for field in TRANSPORT_FIELDS if field in body}


def pack(head: Head) -> bytes:
    """Return what another replica needs to know of a head, as JSON.

    Of the headers as they came only those that are read later: the upstream's own Cache-Status,
    and how the body is encoded.
    """
    received = [
        header for header in head.received if header[0].lower() in (CACHE_STATUS, CONTENT_ENCODING)
    ]
    return orjson.dumps(
        [
            head.status,
            _texts(head.headers),
            _texts(received),
            head.content_type.decode("latin-1"),
            head.length,
        ]
    )


def unpack(packed: bytes) -> Head:
    """Return the head that `pack` packed; raise ValueError for anything else."""
    status, headers, received, content_type, length = orjson.loads(packed)
    return Head(status, _pairs(headers), _pairs(received), content_type.encode("latin-1"), length)


def _texts(headers: HeaderList) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _pairs(headers: list[tuple[str, str]]) -> HeaderList:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def header_value(headers: HeaderList, name: bytes) -> bytes:
    """Return the first value of a header, b"" if there is none; `name` in lower case."""
    return next((value for each, value in headers if each.lower() == name), b"")
