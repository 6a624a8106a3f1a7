"""Server-sent events as bytes: cut a stream into raw events, read one, write one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import orjson

from proxy.wire.answer import is_error
from proxy.wire.base import Fields, Json

DONE = b"data: [DONE]\n\n"
MAX_EVENT_BYTES = 8 * 1024 * 1024

# A line ends with \n, \r\n or \r; an event with an empty line. After "\n\r" the next byte says
# whether that \r is a line of its own or half of \r\n.
_BOUNDARY = re.compile(rb"\n\n|\n\r\n|\r\r|\n\r(?=[^\n])")
_LONGEST_BOUNDARY = 3
_MARK = b"\xef\xbb\xbf"  # a byte order mark, which a stream may begin with


class BrokenStream(Exception):
    """The events are not one whole answer: an error event, garbage, or an end too early."""


class SseReader:
    """Cuts a byte stream, however it is chunked, into raw events.

    No byte is lost or changed: what feed returned, and flush after it, joins to what was fed.
    An event longer than `max_event_bytes` comes out in pieces, which payloads then refuses.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._pending = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes; return the events they complete, empty last line included."""
        if not self._pending and _is_one_event(chunk):
            return [chunk]
        searched = max(0, len(self._pending) - _LONGEST_BOUNDARY + 1)
        self._pending += chunk
        events, start = [], 0
        for boundary in _BOUNDARY.finditer(self._pending, searched):
            events.append(bytes(self._pending[start : boundary.end()]))
            start = boundary.end()
        del self._pending[:start]
        if len(self._pending) > self._max_event_bytes:
            events.append(self.flush())
        return events

    def flush(self) -> bytes:
        """Return and forget the bytes of an event whose end has not come."""
        rest = bytes(self._pending)
        self._pending.clear()
        return rest


def _is_one_event(chunk: bytes) -> bool:
    # What most servers write: one event a chunk.
    return chunk.endswith(b"\n\n") and chunk.find(b"\n\n") == len(chunk) - 2 and b"\r" not in chunk


def _is_one_line(event: bytes) -> bool:
    is_data = event.startswith(b"data: ") and event.endswith(b"\n\n")
    return is_data and event.find(b"\n") == len(event) - 2 and b"\r" not in event


def _lines(event: bytes) -> list[bytes]:
    return event.removeprefix(_MARK).splitlines()


def _fields(event: bytes, name: bytes) -> list[bytes]:
    values = []
    for line in _lines(event):
        field, _, value = line.partition(b":")
        if field == name:
            values.append(value[1:] if value.startswith(b" ") else value)
    return values


def data_of(event: bytes) -> bytes:
    """Return an event's data, its lines joined by a newline; b"" for a comment or keep-alive."""
    if _is_one_line(event):
        return event[6:-2]
    return b"\n".join(_fields(event, b"data"))


def name_of(event: bytes) -> bytes:
    """Return an event's type, the last `event:` line; b"" when it has none."""
    return (_fields(event, b"event") or [b""])[-1]


def with_data(event: bytes, data: Json) -> bytes:
    """Return the same event carrying other data; its other lines stay."""
    if _is_one_line(event):
        return encode(data)
    kept = [line for line in _lines(event) if line and not line.startswith(b"data")]
    return b"\n".join([*kept, b"data: " + orjson.dumps(data), b"\n"])


def encode(data: Json, name: str | None = None) -> bytes:
    """Return one event with this JSON as its data, named when `name` is given."""
    if name is None:
        return b"data: %b\n\n" % orjson.dumps(data)
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))


def payloads(events: Iterable[bytes]) -> Iterator[Fields | None]:
    """Yield the JSON object of each event that has data, and None for [DONE].

    Raise BrokenStream on anything else, on an error event, and on data after [DONE].
    """
    done = False
    for event in events:
        data = data_of(event)
        if not data:
            continue
        if done:
            raise BrokenStream("data after [DONE]")
        if data.strip() == b"[DONE]":
            done = True
            yield None
            continue
        yield _payload(event, data)


def _payload(event: bytes, data: bytes) -> Fields:
    try:
        payload = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BrokenStream(f"not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise BrokenStream("not an object")
    if is_error(payload) or (not _is_one_line(event) and name_of(event) == b"error"):
        raise BrokenStream("an error event")
    return payload
