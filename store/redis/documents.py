"""Entries in Redis, shared by many replicas, each change of them a record in the journal.

Durable here means: as durable as that Redis is told to be. An entry's document is written before
its record, and removed before the record of its removal, so whoever follows the journal holds
entries that may lack a document (a miss) and never one whose removal it was told of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from store.documents.base import Filter, Page, Stored, Summary, position
from store.documents.heads import microseconds
from store.documents.records import Bounds
from store.entry import Entry, EntryId, Version, size_of
from store.errors import StoreUnavailable
from store.journal import Apply, Approved
from store.redis import codec
from store.redis.appending import (
    append,
    discarded_command,
    purged_command,
    put_command,
    vanished_command,
)
from store.redis.codec import ENTRY_FIELDS, STORED_FIELDS, position_of
from store.redis.connection import RedisConnection
from store.redis.exchange import Command, Reply, exchange, reply_to
from store.redis.keys import Keys
from store.redis.listing import passes, summary
from store.redis.ordered import NEWEST_FIRST, OLDEST_FIRST, Place, fields_of, places
from store.redis.records import RedisRecords
from store.redis.schema import claim, prepare
from store.redis.usage import RedisUsage
from store.redis.writer import OrderedWriter, Steps

EXPIRE_AFTER = timedelta(days=30)
MAX_WAITING = 4096  # writes
MAX_WAITING_BYTES = 64 * 2**20
LARGE_BODY = 64 * 2**10  # bytes; takes a thread about 1 ms to compress
READ_AT_ONCE = 500  # documents
BROWSED_AT_ONCE = 200
DEFAULT_BOUNDS = Bounds()

# How many the reply stands for: 2, it was this version; 1, there was none; 0, another one.
DISCARD = f"""
local head = redis.call('HGET', KEYS[1], 'head')
if not head then return 1 end
local sound, values = pcall(cjson.decode, head)
local known = sound and type(values) == 'table'
if known and values[{codec.CREATED + 1}] ~= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
return 2
"""
# When what was there had been stored, in microseconds; 0: nobody knows, -1: there was nothing.
PURGE = f"""
local head = redis.call('HGET', KEYS[1], 'head')
if redis.call('DEL', KEYS[1]) == 0 then return -1 end
local sound, values = pcall(cjson.decode, head)
local at = sound and type(values) == 'table' and values[{codec.CREATED + 1}]
return type(at) == 'number' and at or 0
"""
APPROVE = """
if redis.call('HGET', KEYS[1], 'checksum') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'head', ARGV[2], 'checksum', ARGV[3])
return 1
"""


async def at_once(position: int) -> None:
    """Do not wait for a record to be applied."""


def nobody(apply: Apply) -> None:
    """Tell nobody: nothing in this process reads the journal."""


class RedisDocuments:
    """A DocumentStore in Redis, with `records` and `usage` beside the entries.

    After a write it waits until the process that made it has applied its record. The connection
    is the caller's, who closes it after this.
    """

    def __init__(
        self,
        connection: RedisConnection,
        *,
        keys: Keys,
        origin: str,
        applied: Callable[[int], Awaitable[None]] = at_once,
        follow: Callable[[Apply], None] = nobody,
        expire_after: timedelta = EXPIRE_AFTER,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        bounds: Bounds = DEFAULT_BOUNDS,
    ) -> None:
        """`origin` is this replica's id, `expire_after` when Redis itself forgets an entry.

        `applied` and `follow` are those of what reads the journal in this process.
        """
        self._connection = connection
        self._keys = keys
        self._origin = origin
        self._applied = applied
        self._follow = follow
        self._expire_ms = expire_after // timedelta(milliseconds=1)
        self._writer = OrderedWriter(
            connection, max_writes=max_waiting, max_bytes=max_waiting_bytes
        )
        self.records = RedisRecords(
            connection,
            self._writer,
            keys=keys,
            origin=origin,
            applied=applied,
            expire_ms=self._expire_ms,
            bounds=bounds,
        )
        self.usage = RedisUsage(connection, self._writer, keys)

    @classmethod
    async def open(cls, connection: RedisConnection, *, keys: Keys, **options: Any) -> Self:
        """Return the store once Redis holds this version of it, or nothing yet.

        Takes what the constructor takes. Raises StoreUnavailable, also for another version.
        """
        await prepare(connection, keys)
        return cls(connection, keys=keys, **options)

    @property
    def waiting(self) -> int:
        return self._writer.waiting

    def follow(self, apply: Apply) -> None:
        self._follow(apply)

    async def put(self, entry: Entry) -> None:
        large = len(entry.body) >= LARGE_BODY
        try:
            size = size_of(entry)
            steps = None if large else self._put_steps(entry)
        except (ValueError, TypeError) as error:  # texts that are no Unicode
            raise StoreUnavailable(f"the entry cannot be encoded: {error}") from error
        what = steps or asyncio.ensure_future(asyncio.to_thread(self._put_steps, entry))
        await self._applied(position_of(await self._writer.submit(what, size=size)))

    async def get(self, id: EntryId) -> Entry | None:
        self._writer.check_open()
        answer = await self._connection.ask_soon(
            lambda client: reply_to(client, "HMGET", self._keys.entry(id), *ENTRY_FIELDS)
        )
        if len(answer[ENTRY_FIELDS.index(b"body")] or b"") < LARGE_BODY:
            return codec.decode_entry(answer)
        return await asyncio.to_thread(codec.decode_entry, answer)

    async def purge(self, ids: Sequence[EntryId]) -> int:
        named = list(dict.fromkeys(ids))
        if not named:
            self._writer.check_open()
            return 0

        def note(replies: list[Reply]) -> Command:
            return purged_command(self._keys, zip(named, replies, strict=True), self._origin)

        first: list[Command] = [("EVAL", PURGE, 1, self._keys.entry(id)) for id in named]
        return await self._remove(first, note, len(named))

    async def discard(self, versions: Sequence[Version]) -> int:
        named = list(dict.fromkeys(versions))
        if not named:
            self._writer.check_open()
            return 0
        places: list[Command] = [("ZSCORE", self._keys.entries, id) for id, _ in named]
        deletions: list[Command] = [
            ("EVAL", DISCARD, 1, self._keys.entry(id), microseconds(at)) for id, at in named
        ]

        def note(replies: list[Reply]) -> Command:
            found = zip(named, replies, replies[len(named) :], strict=False)
            return discarded_command(self._keys, found, self._origin)

        return await self._remove(places + deletions, note, len(named))

    async def approve(self, ids: Sequence[EntryId]) -> int:
        named = list(ids)

        async def work(client: Redis) -> tuple[int, int]:
            return await self._approve(client, named)

        marked, record = await self._writer.submit(work, size=64 * len(named))
        if marked:
            await self._applied(record)
        return int(marked)

    async def load_all(self, batch: int) -> AsyncIterator[list[Stored]]:
        after = "-inf"
        while True:
            self._writer.check_open()
            found = await places(
                self._connection, self._keys.entries, OLDEST_FIRST, after, min(batch, READ_AT_ONCE)
            )
            if not found:
                return
            after = f"({found[-1].number}"
            answers = await fields_of(self._connection, self._keys, found, STORED_FIELDS)
            await self._forget(
                [place for place, a in zip(found, answers, strict=True) if a[0] is None]
            )
            part = await asyncio.to_thread(decode_all, answers)
            if part:
                yield part

    async def browse(self, filter: Filter, *, limit: int, cursor: str | None = None) -> Page:
        below = f"({position(cursor)}"
        shown = list[tuple[int, Summary]]()
        while len(shown) <= limit:
            self._writer.check_open()
            found = await places(
                self._connection, self._keys.entries, NEWEST_FIRST, below, BROWSED_AT_ONCE
            )
            if not found:
                break
            below = f"({found[-1].number}"
            answers = await fields_of(self._connection, self._keys, found, (b"head",))
            heads = list(zip(found, (answer[0] for answer in answers), strict=True))
            await self._forget([place for place, head in heads if head is None])
            for place, head in heads:
                line = None if head is None else summary(head)
                if line is not None and passes(filter, line):
                    shown.append((place.number, line))
        more = str(shown[limit - 1][0]) if len(shown) > limit else None
        return Page(tuple(line for _, line in shown[:limit]), more)

    async def count(self) -> int:
        self._writer.check_open()
        return int(
            await self._connection.ask(lambda client: reply_to(client, "ZCARD", self._keys.entries))
        )

    async def ping(self) -> None:
        self._writer.check_open()
        await claim(self._connection, self._keys)

    async def aclose(self) -> None:
        await self._writer.aclose()

    def _put_steps(self, entry: Entry) -> Steps:
        fields = codec.encode_entry(entry)
        key = self._keys.entry(entry.id)
        first: list[Command] = [
            ("HSET", key, *(part for field in fields.items() for part in field)),
            ("PEXPIRE", key, self._expire_ms),
        ]
        command = put_command(
            self._keys,
            entry.id,
            entry.answer_id,
            codec.put_fields(fields),
            self._origin,
            self._expire_ms,
        )
        return Steps(first, lambda _: command)

    async def _forget(self, gone: Sequence[Place]) -> None:
        """Have every replica let go of entries whose documents have vanished.

        What is listed next may be purged, and they are not in that list.
        """
        if gone:
            command = vanished_command(self._keys, gone, self._origin)
            await self._connection.ask(lambda client: reply_to(client, *command))

    async def _remove(
        self, first: Sequence[Command], note: Callable[[list[Reply]], Command], count: int
    ) -> int:
        gone, record = await self._writer.submit(Steps(first, note), size=64 * count)
        if record is not None:
            await self._applied(position_of(record))
        return int(gone)

    async def _approve(self, client: Redis, ids: list[EntryId]) -> tuple[int, int]:
        """Mark what may be; return how many, and the record's position. Runs in the writer."""
        names = [self._keys.entry(id) for id in ids]
        answers = refused(
            await exchange(client, [("HMGET", name, *STORED_FIELDS) for name in names])
        )
        marks = [
            (id, ("EVAL", APPROVE, 1, name, answer[1], *mark))
            for id, name, answer in zip(ids, names, answers, strict=True)
            if (mark := codec.approve(answer)) is not None
        ]
        done = refused(await exchange(client, [command for _, command in marks]))
        marked = [id for (id, _), was in zip(marks, done, strict=True) if was]
        if not marked:
            return 0, 0
        change = Approved(tuple(dict.fromkeys(marked)))
        return len(marked), await append(client, self._keys, change, origin=self._origin)


def decode_all(answers: Sequence[codec.Answer]) -> list[Stored]:
    """Return the undamaged entries among the answers."""
    return [stored for each in answers if (stored := codec.decode_stored(each)) is not None]


def refused(replies: list[Reply]) -> list[Reply]:
    """Return the replies; raise the first that is a refusal."""
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    return replies
