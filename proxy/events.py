"""Which answer went to whom: what feedback refers to. In memory, for a day, and bounded.

An event is named by the X-Request-Id of its call and belongs to the tenant that was served.
Writing each one down would cost a hit more than the hit itself, so a restart forgets them:
feedback can then still name the entry or the answer's own id.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import orjson

from store.entry import EntryId

LONGEST_QUESTION = 10_000  # characters of a question that is kept in a labelled pair
KEPT = timedelta(hours=24)
MAX_EVENTS = 100_000
MAX_CHARACTERS = 32 * 2**20  # of queries, all events together
_TOLD = LONGEST_QUESTION + 1  # characters of a question that another replica is told
_LEAST = 64  # characters that an event counts at the least


class ServingEvent(NamedTuple):
    """One answer that a tenant got."""

    at: datetime
    entry_id: EntryId  # that was served, or that the answer may have been stored as
    query: str
    entry_query: str  # of the entry served; the same as `query` unless it was a hit by meaning
    similarity: float
    category: str
    hit: bool
    same_past: bool = True  # whether the dialogues before the two questions are equal
    shared_key: str = ""  # of the entry


class ServingEvents:
    """The recent events by (tenant, request id); of two with one name the later counts."""

    def __init__(self, max_events: int = MAX_EVENTS, max_characters: int = MAX_CHARACTERS) -> None:
        self._max_events = max_events
        self._max_characters = max_characters
        self._events: OrderedDict[tuple[str, str], ServingEvent] = OrderedDict()
        self._characters = 0

    def __len__(self) -> int:
        return len(self._events)

    def note(self, tenant: str, request_id: str, event: ServingEvent) -> None:
        """Remember an event; the oldest ones make room."""
        key = (tenant, request_id)
        earlier = self._events.pop(key, None)
        if earlier is not None:
            self._characters -= _size(earlier)
        self._events[key] = event
        self._characters += _size(event)
        while len(self._events) > self._max_events or self._characters > self._max_characters:
            _, oldest = self._events.popitem(last=False)
            self._characters -= _size(oldest)

    def find(self, tenant: str, request_id: str, now: datetime) -> ServingEvent | None:
        """Return the tenant's event of this name; None if there is none or it is too old."""
        event = self._events.get((tenant, request_id))
        return event if event is not None and now - event.at <= KEPT else None


def event_to_bytes(event: ServingEvent) -> bytes:
    """Return an event for another replica; of questions too long to be kept, their beginnings."""
    query, entry_query = event.query[:_TOLD], event.entry_query[:_TOLD]
    if query == entry_query and event.query != event.entry_query:
        entry_query = entry_query[:-1]  # two questions stay two
    told = event._replace(at=event.at.timestamp(), query=query, entry_query=entry_query)  # type: ignore[arg-type]
    return orjson.dumps(tuple(told))


def event_from_bytes(told: bytes) -> ServingEvent:
    """Return the event of event_to_bytes; raise ValueError or TypeError for anything else."""
    at, *rest = orjson.loads(told)
    return ServingEvent(datetime.fromtimestamp(at, UTC), *rest)


def _size(event: ServingEvent) -> int:
    if event.entry_query is event.query:
        return _LEAST + len(event.query)
    return _LEAST + len(event.query) + len(event.entry_query)
