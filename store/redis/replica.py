"""A replica follows the journal in Redis, and knows how sure it is of what it holds.

Memory changes only by the records of the stream, this process' own among them, in their order. A
beat asks where the journal ends; once everything up to there is applied, memory is as of the time
at which that was asked. When this was longer ago than `max_staleness`, nothing may be served: a
purge may have been acknowledged meanwhile, which waits exactly so long for whoever is out of reach.

When the record that was applied last is not in the stream, Redis has lost some: it was emptied, or
came back without its last writes. That begins another epoch: memory is loaded anew, every replica
holds against it what it remembers of purges, and nothing is served before all have.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import uuid
from collections import deque
from collections.abc import Sequence

from store.errors import StoreUnavailable
from store.journal import Apply, Change, Learnt, Mark, Put, Record
from store.membership import Reload
from store.redis.appending import append
from store.redis.clock import now
from store.redis.codec import decode_change, position_of, stream_id
from store.redis.connection import RedisConnection
from store.redis.keys import Keys
from store.redis.remembered import Remembered, must_last
from store.redis.replica_scripts import (
    POLL_SECONDS,
    Beat,
    alive,
    beat,
    joined,
    leave,
    read_after,
    renew,
    settled,
)
from store.redis.stopping import stop

MAX_STALENESS = 2.0  # seconds
BEATS = 8  # within max_staleness
RETRY_SECONDS = 0.1
NEVER = -1e9  # seconds, as of `now`
JOINING_SECONDS = 30.0  # that a new epoch waits for replicas that were known
ALIVE_FOR = 3  # times max_staleness
OWN_SECONDS = 1.0  # that a write waits to become visible here

logger = logging.getLogger(__name__)


class Replica:
    """This process' place in the journal. All methods are called from one event loop."""

    shared = True

    def __init__(
        self,
        connection: RedisConnection,
        keys: Keys,
        remembered: Remembered,
        *,
        max_staleness: float = MAX_STALENESS,
        joining_seconds: float = JOINING_SECONDS,
    ) -> None:
        self.name = remembered.replica
        self.position = 0  # of the last record applied
        self.epoch = ""
        self.reloads = 0
        self.forgotten = False
        self._connection = connection
        self._keys = keys
        self._remembered = remembered
        self._max_staleness = max_staleness
        self._joining_ms = int(joining_seconds * 1000)
        self._followers: list[Apply] = []
        self._reloads: list[Reload] = []
        self._asked: deque[tuple[float, int]] = deque(maxlen=64)  # when, and the end as of then
        self._applied = 0  # position of the last record that the followers were told
        self._held: dict[asyncio.Future[None], int] = {}  # and the position before each
        self._confirmed = NEVER  # seconds as of which memory is known to be whole
        self._behind = True  # memory has to be loaded anew before it can follow
        self._closing = False
        self._lost = False  # the journal is known to have lost records
        self._joining = True  # others have not yet held against this epoch what they remember
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap, by position
        self._published = asyncio.Event()  # there is something that others wait for
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def told(self) -> int:
        """The position up to which all is done here: others wait for no more."""
        return min(self.position, *self._held.values()) if self._held else self.position

    @property
    def fresh(self) -> bool:
        """Whether what memory holds may be served."""
        sure = now() - self._confirmed <= self._max_staleness
        return sure and not self._behind and not self._joining

    @property
    def staleness(self) -> float:
        """Seconds since memory was last known to reflect all of the journal; inf: never yet."""
        never = self._confirmed == NEVER
        return math.inf if never else now() - self._confirmed

    @property
    def mark(self) -> Mark:
        """The end of the journal as far as memory reflects it."""
        return Mark(self.epoch, self.position)

    def follow(self, apply: Apply) -> None:
        """Tell `apply` every record from now on, in order."""
        self._followers.append(apply)

    def on_reload(self, reload: Reload) -> None:
        """Have `reload` called whenever memory has to be read anew, in this order."""
        self._reloads.append(reload)

    async def join(self, snapshot: Mark | None = None) -> bool:
        """Take a place in the journal: where a snapshot was taken, if one can follow from there.

        Else at its end; what is loaded after this misses nothing. Return whether the snapshot is
        of use. Raises StoreUnavailable.
        """
        await self._look_for_loss()
        if snapshot is not None and not self.forgotten:
            self.position = snapshot.position
            place = await self._ask_beat()
            if place.epoch == snapshot.epoch and place.here:
                self.epoch = snapshot.epoch
                return True
            self.position = 0
        await self._take_place()
        return False

    async def reach_end(self) -> None:
        """Wait until what is recorded by now is applied here, at most a second.

        Raises StoreUnavailable.
        """
        await self.applied((await self._ask_beat()).last)

    async def start(self) -> None:
        """Follow from the place that `join` took; what was stored has been loaded meanwhile.

        Raises StoreUnavailable.
        """
        await self._loaded()
        self._behind = False
        for work in (self._tail(), self._beat_for_ever()):
            self._tasks.append(asyncio.create_task(work, name="nearhit-replica"))

    async def applied(self, position: int) -> None:
        """Wait until the record is applied here; at most a second, for it is durable anyway."""
        if position <= self.position:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (position, id(future), future))
        try:
            async with asyncio.timeout(OWN_SECONDS):
                await future
        except TimeoutError:
            return

    async def settled(self) -> None:
        """Wait until no live replica can serve what a record so far has taken back.

        That is when all have applied it, or none of the others may serve any more. Raises
        StoreUnavailable.
        """
        await settled(self._connection, self._keys, self._max_staleness)

    async def caught_up(self, seconds: float) -> bool:
        """Wait until memory may be served; return whether it may."""
        for _ in range(int(seconds / POLL_SECONDS)):
            if self.fresh:
                break
            await asyncio.sleep(POLL_SECONDS)
        return self.fresh

    def hold(self, works: Sequence[asyncio.Future[None]]) -> None:
        """Have nobody take the record that is just applied for settled here before all are done."""
        for work in works:
            self._held.setdefault(work, max(self._applied, self.position))
            work.add_done_callback(self._let_go)

    def _let_go(self, work: asyncio.Future[None]) -> None:
        self._held.pop(work, None)
        self._published.set()

    async def tell(self, change: Change) -> None:
        """Append a change that is in the journal only. Raises StoreUnavailable."""
        name = self.name
        await self._connection.ask(lambda r: append(r, self._keys, change, origin=name))

    async def others(self) -> set[str]:
        """Return the names of the others that are alive. Raises StoreUnavailable."""
        within = int(1000 * ALIVE_FOR * self._max_staleness)
        found = await self._connection.ask(lambda r: alive(r, self._keys, within))
        return found - {self.name}

    async def ping(self) -> None:
        """Raise StoreUnavailable unless what memory holds may be served."""
        if not self.fresh:
            raise StoreUnavailable("this replica has not caught up with the journal")

    async def aclose(self) -> None:
        """Leave the others."""
        self._closing = True
        await stop(*self._tasks)
        try:
            await self._connection.ask(lambda r: leave(r, self._keys, self.name))
        except StoreUnavailable:
            logger.warning("the other replicas will wait for this one once")

    async def _look_for_loss(self) -> None:
        """Learn whether Redis has forgotten a record that this replica had applied when it ended.

        Nobody else may have noticed: then another epoch begins.
        """
        known = await self._remembered.place()
        if known is None:
            return
        self.position = known.position
        place = await self._ask_beat()
        if place.epoch != known.epoch:
            self.forgotten = True
        elif known.position and not place.here and place.first <= known.position:
            self.forgotten, self._lost, self.epoch = True, True, known.epoch
        self.position = 0

    async def _take_place(self) -> None:
        """Find the epoch, beginning one if there is none, and its end."""
        place = await self._ask_beat()
        if self._lost or not place.epoch:
            await self._renew(self.epoch if self._lost else "")
            self._lost = False
            place = await self._ask_beat()
        self.epoch, self.position, self._applied = place.epoch, place.last, place.last
        self._held.clear()
        self._asked.clear()
        # Whether the others have joined this epoch too is for the next beat to say.
        self._joining, self._confirmed = True, NEVER
        self._wake()

    async def _renew(self, old: str) -> None:
        new = uuid.uuid4().hex
        if old or self.epoch or self.forgotten:
            logger.warning("the journal has lost records: another epoch begins")
        else:  # as on the first start of all
            logger.info("there is no journal in Redis: one begins")
        await self._connection.ask(
            lambda r: renew(
                r, self._keys, self.name, old=old, new=new, patience_ms=self._joining_ms
            )
        )

    async def _tail(self) -> None:
        while not self._closing:  # a client that is cut off may swallow a cancellation
            try:
                if self._behind:
                    await self._resync()
                await self._read()
            except StoreUnavailable as error:
                logger.warning("the journal cannot be read: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                logger.exception("following the journal failed; memory is loaded anew")
                self._behind = True
                await asyncio.sleep(RETRY_SECONDS)

    async def _resync(self) -> None:
        """Load memory anew, as of a place in the journal."""
        self.reloads += 1
        before = self.epoch
        await self._take_place()
        self.forgotten = self.forgotten or self.epoch != before
        for reload in self._reloads:
            await reload()
        await self._loaded()
        self._behind = False

    async def _loaded(self) -> None:
        """Note that what this replica remembers is held against what it has loaded."""
        await self._connection.ask(lambda r: joined(r, self._keys, self.name))
        self.forgotten = False
        try:
            await self._remembered.reach(self.mark)
        except StoreUnavailable as error:  # a full disk; the place before is as true
            logger.warning("where this replica is in the journal is not noted: %s", error)

    async def _read(self) -> None:
        after = stream_id(self.position)
        found, here = await self._connection.ask(lambda r: read_after(r, self._keys, after))
        if not found or self._behind:  # found to be lost while this waited
            return
        if here or self.position == 0:
            await self._take(found[0][1])
        else:  # some may be missing between: the beat says whether they were cut or lost
            self._published.set()
            await asyncio.sleep(RETRY_SECONDS)

    async def _take(self, items: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        records, unread = list[Record](), None
        for number, fields in items:
            change = decode_change(fields)
            if change is None:
                unread = number
                break
            own = fields.get(b"origin") == self.name.encode()
            records.append(Record(position_of(number), change, own))
        if records:
            await self._apply(records)
        if unread is not None:  # of a later version, say: what it did is in what is stored
            logger.error("record %s cannot be read; memory is loaded anew", unread.decode())
            self._behind = True
            self.position = position_of(unread)

    async def _apply(self, records: list[Record]) -> None:
        for record in records:
            if record.position > self._applied:  # else it comes again, as it could not be noted
                for apply in self._followers:
                    apply(record)
                self._applied = record.position
        lasting = [record for record in records if must_last(record.change)]
        if lasting:  # on this disk before anybody is told that it was applied
            await self._remembered.note(lasting, self.epoch)
        self.position = records[-1].position
        self._wake()
        self._confirm()
        if not all(isinstance(record.change, Put | Learnt) for record in records):
            self._published.set()

    async def _beat_for_ever(self) -> None:
        pause = self._max_staleness / BEATS
        while not self._closing:
            try:
                asked = now()
                position = self.told  # it moves on while this waits
                self._look(asked, position, await self._ask_beat())
            except StoreUnavailable as error:
                logger.warning("Redis does not tell where the journal ends: %s", error)
            except Exception:
                logger.exception("asking where the journal ends failed")
            try:
                async with asyncio.timeout(pause):
                    await self._published.wait()
            except TimeoutError:
                continue
            self._published.clear()

    def _look(self, asked: float, position: int, place: Beat) -> None:
        """Judge by where the journal is whether memory can go on from where it was when asked."""
        if place.epoch == self.epoch:
            self._joining = place.joining > 0
        if self._behind:
            return
        here = place.here or position == 0
        if place.epoch == self.epoch and here:
            self._asked.append((asked, place.last))
            self._confirm()
        elif place.epoch == self.epoch and place.first > position:
            logger.warning("the journal no longer reaches back to here: loading anew")
            self._behind = True
        else:
            self._behind = True
            self._lost = place.epoch == self.epoch  # and nobody else has noticed

    def _confirm(self) -> None:
        while self._asked and self._asked[0][1] <= self.position:
            self._confirmed = self._asked.popleft()[0]

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.position:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    async def _ask_beat(self) -> Beat:
        may_ms = int(self._max_staleness * 1000)
        return await self._connection.ask(
            lambda r: beat(r, self._keys, self.name, self.told, may_ms)
        )
