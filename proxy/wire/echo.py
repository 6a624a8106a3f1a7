"""What an answer echoes of its request although it is no part of the question.

A stored answer serves whoever asks the same, so it holds none of that; who gets it replayed finds
their own in its place.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.wire.answer import is_writable
from proxy.wire.base import TRANSPORT_FIELDS, Fields

# What tells of who asked, and what it is in the answer to somebody who did not say.
_WHOSE: Fields = {"metadata": {}, "user": None, "safety_identifier": None, "prompt_cache_key": None}
# How they wanted it done, and what it is where they did not care.
_HOW: Fields = {"store": True, "service_tier": "default"}


def without_asker(answer: Fields, asked: Fields) -> Fields:
    """Return an answer without what it echoes of who asked; itself if it echoes nothing.

    A field that counts in the exact key stays, if the request has it: whoever may be served says
    the same there. An upstream may fill it from one that does not count.
    """
    blank = {
        field: value
        for field, value in _WHOSE.items()
        if answer.get(field) and (field in TRANSPORT_FIELDS or asked.get(field) is None)
    }
    for field, value in _HOW.items():
        if field in answer and field in asked and answer[field] == asked[field] != value:
            blank[field] = value
    return {**answer, **blank} if blank else answer


def own(asked: Fields, fields: Iterable[str]) -> Fields:
    """Return what a request says in these fields; nothing if that could not be written."""
    said = {field: asked[field] for field in fields if asked.get(field) is not None}
    return said if not said or is_writable(said) else {}


def with_own(answer: Fields, own: Fields) -> Fields:
    """Return an answer that echoes what its request says, where it has a place for that."""
    return {**answer, **{field: value for field, value in own.items() if field in answer}}
