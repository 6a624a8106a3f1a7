"""The usage ledger in Redis: a hash of amounts for each start, added to by one script a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import orjson
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from store.documents.heads import EPOCH
from store.documents.usage import KEPT, LENGTH, OTHER, Span, UsageKey, UsageRow, starts
from store.redis.appending import IF_ROOM, THOUGH_FULL
from store.redis.connection import RedisConnection
from store.redis.exchange import Command, Reply, exchange
from store.redis.keys import Keys
from store.redis.series import name_of
from store.redis.writer import OrderedWriter, Steps

_AT_ONCE = 30  # hashes in one round trip
_MANY = 2_000  # fields and amounts that are worth a trip to a thread
_KNOWN_FOR = 86_400  # seconds that a batch is remembered
# KEYS: the batch, then hashes; ARGV: a time to live in seconds for each, then number of the key,
# field and amount in turn.
ADD = """
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then return 0 end
for i = #KEYS + 1, #ARGV, 3 do
  redis.call('HINCRBYFLOAT', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2])
end
for i = 2, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[i]) end
return 1
"""
# ARGV: how fields begin that name the tenant, and how they are to begin.
FOLD = """
local gone, all = 0, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, #ARGV[1]) == ARGV[1] then
    local rest = string.sub(all[i], #ARGV[1] + 1)
    redis.call('HINCRBYFLOAT', KEYS[1], ARGV[2] .. rest, all[i + 1])
    redis.call('HDEL', KEYS[1], all[i])
    gone = 1
  end
end
return gone
"""
READ = "return redis.call('HGETALL', KEYS[1])"  # a script answers both protocols alike


class RedisUsage:
    """The UsageLedger of an open RedisDocuments, which closes it."""

    def __init__(self, connection: RedisConnection, writer: OrderedWriter, keys: Keys) -> None:
        self._connection = connection
        self._writer = writer
        self._keys = keys

    async def add(self, rows: Sequence[UsageRow], *, batch: str) -> None:
        if not rows:
            return
        names, lives = [self._keys.common(f"usage:batch:{batch}")], [_KNOWN_FOR]
        numbers: dict[str, int] = {}
        added: list[bytes | str | int] = []
        for key, amounts in rows:
            name = self._keys.usage(key.span, key.start)
            if name not in numbers:
                names.append(name)
                lives.append(int((KEPT[key.span] + LENGTH[key.span]).total_seconds()))
                numbers[name] = len(names)
            for metric, amount in amounts.items():
                added += (numbers[name], name_of(*key[2:], metric), repr(amount))
        command: Command = ("EVAL", IF_ROOM + ADD, len(names), *names, *lives, *added)
        await self._writer.submit(Steps((), lambda _: command), size=100 * len(added))

    async def read(self, span: Span, since: datetime, until: datetime) -> list[UsageRow]:
        self._writer.check_open()
        wanted = starts(span, since, until)
        rows: list[UsageRow] = []
        for first in range(0, len(wanted), _AT_ONCE):
            part = wanted[first : first + _AT_ONCE]
            commands: list[Command] = [
                ("EVAL", READ, 1, self._keys.usage(span, start)) for start in part
            ]
            replies = await self._connection.ask(
                lambda client, commands=commands: _all_of(client, commands)  # type: ignore[misc]
            )
            for start, flat in zip(part, replies, strict=True):
                if len(flat) < _MANY:
                    rows += _rows_of(span, start, flat)
                else:
                    rows += await asyncio.to_thread(_rows_of, span, start, flat)
        return rows

    async def fold(self, tenant: str, now: datetime) -> int:
        if tenant == OTHER:
            return 0
        until = now + timedelta(days=2)  # another replica's clock may be ahead
        before, after = (name_of(whose)[:-1] + b"," for whose in (tenant, OTHER))
        commands: list[Command] = [
            ("EVAL", THOUGH_FULL + FOLD, 1, self._keys.usage(Span.DAY, start), before, after)
            for start in starts(Span.DAY, EPOCH, until)
        ]

        async def work(client: Redis) -> int:
            return sum(await _all_of(client, commands))

        folded: int = await self._writer.submit(work)
        return folded


async def _all_of(client: Redis, commands: Sequence[Command]) -> list[Reply]:
    replies = await exchange(client, commands)
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    return replies


def _rows_of(span: Span, start: datetime, flat: Sequence[bytes]) -> list[UsageRow]:
    """Return the rows of one hash; what cannot be read is left out."""
    found: dict[UsageKey, dict[str, float]] = {}
    for field, amount in zip(flat[::2], flat[1::2], strict=True):
        try:
            tenant, category, model, outcome, metric = orjson.loads(field)
            value = float(amount)
        except ValueError:
            continue
        key = UsageKey(span, start, tenant, category, model, outcome)
        found.setdefault(key, {})[metric] = value
    return [UsageRow(key, amounts) for key, amounts in found.items()]
