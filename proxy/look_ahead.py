"""What a lookup by meaning does while its text is being encoded, and in the encoder's thread after.

An encoding takes milliseconds in which the event loop has nothing else to do for this call. So the
partition is worked out meanwhile, and what the question says is read. And the thread that has the
vector searches with it at once, before it tells the event loop: to wake one thread for another
takes half as long as to search.

The category is not known by then, nor whether its policy looks anything up: the search is used only
if it turns out to be the one that is wanted.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from proxy.call import Call
from store.cache import Cache
from store.decision.features import NEIGHBORS, read_ahead
from store.entry import Neighbor, PartitionKey, Vector
from store.flat import Found
from store.index import EarlySearch

# Of a follow-up: "and then?" is asked in many dialogues, and nearest are those of others.
_FOLLOW_UP_NEIGHBORS = 32
_PAUSE = 0.001  # seconds: the thread needs the interpreter first, for the text's tokens


def wanted_neighbors(call: Call) -> int:
    """Return how many of the nearest are looked at."""
    return _FOLLOW_UP_NEIGHBORS if call.question.earlier else NEIGHBORS


class LookAhead:
    """The `embed.batcher.Sequel` of one call."""

    __slots__ = ("_cache", "_call", "_found", "_key", "_search")

    def __init__(self, call: Call, cache: Cache) -> None:
        self._call = call
        self._cache = cache
        self._key: PartitionKey | None = None
        self._search: EarlySearch | None = None
        self._found: Found | None = None

    def begin(self) -> None:
        """Get ready in a while, if the vector is not there by then."""
        asyncio.get_running_loop().call_later(_PAUSE, self._prepare)

    def run(self, vector: Vector) -> None:
        """Search for the vector, in the encoder's thread, if that is ready."""
        search = self._search
        if search is not None:
            with suppress(Exception):  # the lookup searches again, and says what is wrong
                self._found = search.run(vector)

    def neighbors(self, key: PartitionKey) -> list[Neighbor] | None:
        """Return the nearest in this partition, nearest first; None if they were not searched."""
        if self._search is None or self._found is None or key != self._key:
            return None
        return self._search.neighbors(self._found)

    def _prepare(self) -> None:
        call = self._call
        self._key = call.partition
        checkpoint = call.rules.encoding.checkpoint
        search = self._cache.vectors.early(checkpoint, self._key, wanted_neighbors(call))
        if search is not None:
            self._search = search
            read_ahead(call.question.text)
