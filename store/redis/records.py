"""Policy versions, audit trail, pairs, quarantine, budgets and what was learnt in Redis, by the
entries' writer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

from redis.asyncio import Redis

from store.documents.base import NEWEST, position
from store.documents.heads import microseconds
from store.documents.records import (
    BY_ADMIN,
    AuditRow,
    Bounds,
    Forgotten,
    Listing,
    Pair,
    PolicyVersion,
    check_state,
)
from store.entry import EntryId
from store.errors import StoreUnavailable, VersionTaken
from store.journal import Released, Stopped, TenantForgotten
from store.redis import record_rows as rows
from store.redis.appending import IF_ROOM, THOUGH_FULL, append, record
from store.redis.codec import STORED_FIELDS, decode_entry_head, encode_change, position_of
from store.redis.connection import RedisConnection
from store.redis.exchange import Command, reply_to
from store.redis.keys import Keys
from store.redis.ordered import NEWEST_FIRST, OLDEST_FIRST, drop, fields_of, places
from store.redis.series import ADD, DISCARD, LIST, Series, name_of, opened, parts_of, sealed
from store.redis.writer import OrderedWriter, Steps

T = TypeVar("T")

LISTED_AT_ONCE = 500  # rows, where many may not be wanted
SCANNED_AT_ONCE = 2_000  # names
ANSWERS_AT_ONCE = 50  # entries with one id in their answers

ADD_VERSION = f"""{ADD}
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or '0'
if ARGV[6] ~= '' and tonumber(newest) ~= tonumber(ARGV[6]) then return false end
local number = add(1, '', ARGV[1], ARGV[2])
add(4, '', ARGV[3], ARGV[4])
if ARGV[7] then redis.call('HSET', KEYS[8], ARGV[7], ARGV[8]) end
return {{number, redis.call('XADD', KEYS[7], '*', 'kind', 'policy',
  'number', string.format('%.0f', number), 'origin', ARGV[5])}}
"""
# ARGV: name, row, bound, how the names of the same tenant end, origin, the record. Who leaves for
# a new row: the same tenant's oldest, else the oldest; an admin's for an admin's only.
QUARANTINE = f"""
local function by_admin(name)
  return string.match(redis.call('HGET', KEYS[2], name) or '', '^%x+%[%-?%d+,"{BY_ADMIN}') ~= nil
end
local function leaving()
  local names, oldest = redis.call('ZRANGE', KEYS[1], 0, -1), nil
  for _, name in ipairs(names) do
    local own = string.sub(name, -#ARGV[4]) == ARGV[4]
    if name ~= ARGV[1] and (own or not oldest) and not by_admin(name) then
      if own then return name end
      oldest = name
    end
  end
  return oldest or (by_admin(ARGV[1]) and names[1]) or ARGV[1]
end
redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[3]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local last = redis.call('XADD', KEYS[4], '*', unpack(ARGV, 6))
while redis.call('ZCARD', KEYS[1]) > tonumber(ARGV[3]) do
  local name = leaving()
  local parts = cjson.decode(name)
  redis.call('ZREM', KEYS[1], name)
  redis.call('HDEL', KEYS[2], name)
  last = redis.call('XADD', KEYS[4], '*', 'kind', 'released', 'id', parts[1],
    'tenant', parts[2], 'origin', ARGV[5])
end
return last
"""
RELEASE = """
redis.call('HDEL', KEYS[2], ARGV[1])
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return false end
return redis.call('XADD', KEYS[3], '*', unpack(ARGV, 2))
"""
SAVE_BUDGET = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
SAVE_STATE = "return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])"


class RedisRecords:
    """The Records of an open RedisDocuments, which closes them. Budgets are each replica's own."""

    def __init__(
        self,
        connection: RedisConnection,
        writer: OrderedWriter,
        *,
        keys: Keys,
        origin: str,
        applied: Callable[[int], Awaitable[None]],
        expire_ms: int,
        bounds: Bounds,
    ) -> None:
        self._connection = connection
        self._writer = writer
        self._keys = keys
        self._origin = origin
        self._applied = applied
        self._expire_ms = expire_ms
        self._versions = Series(keys, "versions", bounds.versions)
        self._audit = Series(keys, "audit", bounds.audit)
        self._pairs = Series(keys, "pairs", bounds.pairs)
        self._quarantine = Series(keys, "quarantine", bounds.quarantine)

    async def add_version(
        self,
        version: PolicyVersion,
        audit: AuditRow,
        *,
        after: int | None = None,
        state: tuple[str, str] | None = None,
    ) -> int:
        row = rows.version_row(version)
        names = (*self._versions.names, *self._audit.names, self._keys.journal, self._keys.states)
        kept = (row, self._versions.keep, rows.audit_row(audit), self._audit.keep, self._origin)
        wanted = "" if after is None else str(after)
        said = () if state is None else (state[0], sealed(*state))
        command = ("EVAL", THOUGH_FULL + ADD_VERSION, len(names), *names, *kept, wanted, *said)
        added = await self._write(command, len(row))
        if added is None:
            raise VersionTaken(f"policy version {after} is not the newest")
        number, record = added
        await self._applied(position_of(record))
        return int(number)

    async def latest_version(self) -> PolicyVersion | None:
        found = await self._rows(self._versions, NEWEST, 1)
        return one_version(*found[0]) if found else None

    async def version(self, number: int) -> PolicyVersion | None:
        row = await self._read("HGET", self._versions.names[1], str(number))
        return None if row is None else one_version(number, row)

    async def versions(self, *, limit: int, cursor: str | None = None) -> Listing[PolicyVersion]:
        return await self._list(self._versions, rows.version_of, limit, cursor)

    async def add_audit(self, row: AuditRow) -> None:
        added = rows.audit_row(row)
        await self._write(self._audit.add_command(added), len(added))

    async def audit(self, *, limit: int, cursor: str | None = None) -> Listing[AuditRow]:
        return await self._list(self._audit, lambda _, row: rows.audit_of(row), limit, cursor)

    async def add_pair(self, pair: Pair) -> None:
        row = rows.pair_row(pair)
        name = name_of(pair.tenant, pair.event)
        await self._write(self._pairs.add_command(row, name, IF_ROOM), len(row))

    async def pairs(
        self, *, limit: int, cursor: str | None = None, category: str | None = None
    ) -> Listing[Pair]:
        def wanted(pair: Pair) -> bool:
            return pair.category == category

        def decode(_: int, row: bytes) -> Pair | None:
            return rows.pair_of(row)

        chosen = None if category is None else wanted
        return await self._list(self._pairs, decode, limit, cursor, chosen)

    async def quarantine(self, entry_id: EntryId, tenant: str, at: datetime, why: str) -> None:
        change = record(encode_change(Stopped(entry_id, tenant)), self._origin)
        names = (*self._quarantine.names, self._keys.journal)
        row = sealed(microseconds(at), why)
        end = b"," + name_of(tenant)[1:]
        name, keep = name_of(entry_id, tenant), self._quarantine.keep
        kept = (name, row, keep, end, self._origin, *change)
        stopped = await self._write(
            ("EVAL", THOUGH_FULL + QUARANTINE, len(names), *names, *kept), len(row)
        )
        await self._applied(position_of(stopped))

    async def release(self, entry_id: EntryId, tenant: str) -> bool:
        change = record(encode_change(Released(entry_id, tenant)), self._origin)
        names = (*self._quarantine.names[:2], self._keys.journal)
        kept = (name_of(entry_id, tenant), *change)
        released = await self._write(("EVAL", THOUGH_FULL + RELEASE, len(names), *names, *kept))
        if released is None:
            return False
        await self._applied(position_of(released))
        return True

    async def quarantined(self) -> list[tuple[EntryId, str]]:
        found, after = list[tuple[EntryId, str]](), "-inf"
        key = self._quarantine.names[0]
        while flat := await self._read("EVAL", OLDEST_FIRST, 1, key, after, SCANNED_AT_ONCE):
            after = f"({flat[-1].decode()}"
            found += [(EntryId(id), tenant) for id, tenant in map(parts_of, flat[::2])]
        return found

    async def forget_tenant(self, tenant: str) -> Forgotten:
        async def work(client: Redis) -> tuple[Forgotten, int]:
            pairs = await self._discard(client, self._pairs, lambda parts: parts[0] == tenant)
            stops = await self._discard(client, self._quarantine, lambda parts: parts[1] == tenant)
            change = TenantForgotten(tenant)
            record = await append(client, self._keys, change, origin=self._origin)
            return Forgotten(pairs, stops), record

        forgotten, record = await self._writer.submit(work)
        await self._applied(record)
        assert isinstance(forgotten, Forgotten)
        return forgotten

    async def find_answer(self, tenant: str, answer_id: str) -> EntryId | None:
        self._writer.check_open()
        if not answer_id:
            return None
        key, below, shared = self._keys.answer(answer_id), "+inf", None
        while found := await places(self._connection, key, NEWEST_FIRST, below, ANSWERS_AT_ONCE):
            below = f"({found[-1].number}"
            answers = await fields_of(self._connection, self._keys, found, STORED_FIELDS)
            judged = list(zip(found, answers, strict=True))
            await drop(self._connection, key, [place for place, a in judged if a[0] is None])
            for place, answer in judged:
                head = decode_entry_head(answer)
                if head is None or head.answer_id != answer_id:
                    continue
                if head.tenant == tenant:
                    return place.id
                if shared is None and head.approved and head.shared_key:
                    shared = place.id
        return shared

    async def save_budget(self, category: str, state: str) -> None:
        key = self._keys.budgets(self._origin)
        if state:
            row = sealed(category, state)
            command: Command = ("EVAL", IF_ROOM + SAVE_BUDGET, 1, key, category, row)
            await self._write((*command, self._expire_ms), len(row))
        else:
            await self._write(("HDEL", key, category))

    async def budgets(self) -> dict[str, str]:
        script = "return redis.call('HVALS', KEYS[1])"
        found = await self._read("EVAL", script, 1, self._keys.budgets(self._origin))
        return dict(pair for row in found if (pair := opened(row)) is not None)

    async def save_state(self, name: str, state: str) -> None:
        check_state(state)
        if state:
            row = sealed(name, state)
            command: Command = ("EVAL", IF_ROOM + SAVE_STATE, 1, self._keys.states, name, row)
            await self._write(command, len(row))
        else:
            await self._write(("HDEL", self._keys.states, name))

    async def states(self) -> dict[str, str]:
        script = "return redis.call('HVALS', KEYS[1])"
        found = await self._read("EVAL", script, 1, self._keys.states)
        return dict(pair for row in found if (pair := opened(row)) is not None)

    async def _write(self, command: Command, size: int = 0) -> Any:
        return await self._writer.submit(Steps((), lambda _: command), size=size)

    async def _read(self, *command: bytes | str | int) -> Any:
        self._writer.check_open()
        return await self._connection.ask(lambda client: reply_to(client, *command))

    async def _rows(self, series: Series, below: int, limit: int) -> list[tuple[int, bytes]]:
        flat = await self._read("EVAL", LIST, 2, *series.names[:2], f"({below}", limit)
        return [(int(float(n)), row) for n, row in zip(flat[::2], flat[1::2], strict=True)]

    async def _list(
        self,
        series: Series,
        decode: Callable[[int, bytes], T | None],
        limit: int,
        cursor: str | None,
        wanted: Callable[[T], bool] | None = None,
    ) -> Listing[T]:
        below = position(cursor)
        shown = list[tuple[int, T]]()
        at_once = limit + 1 if wanted is None else LISTED_AT_ONCE
        while len(shown) <= limit:
            found = await self._rows(series, below, at_once)
            if not found:
                break
            below = found[-1][0]
            for number, row in found:
                item = decode(number, row)
                if item is not None and (wanted is None or wanted(item)):
                    shown.append((number, item))
        more = str(shown[limit - 1][0]) if len(shown) > limit else None
        return Listing(tuple(item for _, item in shown[:limit]), more)

    async def _discard(
        self, client: Redis, series: Series, doomed: Callable[[tuple[str, ...]], bool]
    ) -> int:
        """Remove the rows whose names' parts are doomed, part by part; return how many."""
        gone, after = 0, "-inf"
        while flat := await reply_to(
            client, "EVAL", OLDEST_FIRST, 1, series.names[0], after, SCANNED_AT_ONCE
        ):
            after = f"({flat[-1].decode()}"
            names = [name for name in flat[::2] if doomed(parts_of(name))]
            if names:
                script = THOUGH_FULL + DISCARD
                gone += await reply_to(client, "EVAL", script, 2, *series.names[:2], *names)
        return gone


def one_version(number: int, row: bytes) -> PolicyVersion:
    """Return the version; StoreUnavailable if it is damaged."""
    version = rows.version_of(number, row)
    if version is None:
        raise StoreUnavailable(f"policy version {number} is damaged")
    return version
