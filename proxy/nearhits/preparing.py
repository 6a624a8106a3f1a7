"""What examples show is made when an answer is stored, and after a start; not while a client waits.

Reading an answer, scrubbing it and looking for orders in it takes some 0.3 ms an entry, and a
near-hit looks at eight. Here it is done beside the requests, at a fifth of the event loop's time
at most. What does not get done, since answers are stored faster than that, is made when a request
needs it. Nothing here decides who may see an entry: that is the request's to ask.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from proxy.model_settings import Offload as Pairing
from proxy.nearhits.gathering import Gatherer
from proxy.nearhits.planning import pairing_for
from store.cache import Cache
from store.entry import EntryId, Held
from store.errors import StoreUnavailable
from store.journal import Put, Record, Removed
from store.policy import Mode, Offload, PolicyBook

log = logging.getLogger("nearhit.nearhits")

_WAITING = 1024  # entries just stored; the oldest are left out
_REST = 4.0  # times as long as the work took
_LEAST_REST = 0.001  # seconds
_AGAIN = 1.0  # seconds, after a store that could not be read


def is_offered(held: Held, book: PolicyBook, pairings: Sequence[Pairing]) -> bool:
    """Whether an entry may come to be an example of anybody's, as policies are now."""
    if not held.query or held.category not in book:
        return False
    policy = book[held.category]
    if policy.mode is not Mode.SEMANTIC or policy.offload is Offload.OFF:
        return False
    return pairing_for(held.model, pairings) is not None


class Preparing:
    """Makes what is shown of entries, one after the other."""

    def __init__(
        self,
        *,
        gatherer: Gatherer,
        cache: Cache,
        is_wanted: Callable[[Held], bool],
        known: Iterable[EntryId],
    ) -> None:
        """`known` are entries to begin with, the most useful first, as far as there is room."""
        self._gatherer = gatherer
        self._cache = cache
        self._is_wanted = is_wanted
        self._known: Iterator[EntryId] = iter(known)
        self._stored: deque[EntryId] = deque(maxlen=_WAITING)
        self._wake = asyncio.Event()

    def apply(self, record: Record) -> None:
        """Take note of what was stored here, and of what is gone."""
        match record.change:
            # Another replica's answer is not in memory: it is read when somebody needs it.
            case Put(stored) if record.own and self._is_wanted(stored.held):
                self._stored.append(stored.held.id)
                self._wake.set()
            case Removed(ids):
                for id in ids:
                    self._gatherer.forget(id)

    async def run(self) -> None:
        """Make what is waiting, for ever."""
        while True:
            started = time.perf_counter()
            try:
                made = await self._step()
            except StoreUnavailable as error:
                log.warning("examples are not prepared: %s", error)
                await asyncio.sleep(_AGAIN)
                continue
            except Exception:  # of one entry; the others do not suffer for it
                log.exception("an example was not prepared")
                made = True
            if made:
                took = time.perf_counter() - started
                await asyncio.sleep(max(_LEAST_REST, _REST * took))
            else:
                await self._wake.wait()

    async def _step(self) -> bool:
        """Make what is shown of one entry; return whether there was any to look at."""
        if self._stored:
            await self._prepare(self._stored.popleft(), make_room=True)
            return True
        self._wake.clear()
        id = next(self._known, None) if self._gatherer.has_room else None
        if id is None:
            self._known = iter(())  # all the rest is worth less than what there is
            return False
        await self._prepare(id, make_room=False)
        return True

    async def _prepare(self, id: EntryId, *, make_room: bool) -> None:
        held = self._cache.exact(id)
        if held is not None and self._is_wanted(held):
            await self._gatherer.prepare(held, make_room=make_room)
