"""How an upstream's answer begins: what is known before its body."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.call import HeaderList
from proxy.headers import client_headers
from proxy.upstream import UpstreamAnswer


@dataclass(frozen=True, slots=True)
class Head:
    """How an upstream's answer begins."""

    status: int
    headers: HeaderList  # as the client may see them, without our own
    received: HeaderList  # as they came
    content_type: bytes
    length: int | None  # bytes of the body, if announced

    @property
    def is_stream(self) -> bool:
        """Whether the body is SSE."""
        return self.content_type.lower().startswith(b"text/event-stream")

    @property
    def readable(self) -> bool:
        """Whether the body is an answer as plain bytes."""
        encoding = header_value(self.received, b"content-encoding")
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


def header_value(headers: HeaderList, name: bytes) -> bytes:
    """Return the first value of a header, b"" if there is none; `name` in lower case."""
    return next((value for each, value in headers if each.lower() == name), b"")
