"""Appending to the journal in Redis.

Removals, quarantines and the like take effect while Redis is full: its memory limit would keep
what must not be served any more. Scripts can be allowed that, plain commands cannot.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from redis.asyncio import Redis

from store.documents.heads import microseconds
from store.entry import EntryId, Version
from store.journal import Change, Learnt, Put
from store.redis.codec import Fields, encode_change, position_of
from store.redis.exchange import Command, reply_to
from store.redis.keys import Keys

IF_ROOM = "#!lua\n"  # refused as a whole while Redis is full
THOUGH_FULL = "#!lua flags=allow-oom\n"
ORIGIN = b"origin"  # the field that says which replica made the change
ANSWERS_KEPT = 1_000  # entries found by one id in their answers: the newest

APPEND = "return redis.call('XADD', KEYS[1], '*', unpack(ARGV))"
APPEND_PUT = f"""
local number = redis.call('INCR', KEYS[3])
redis.call('ZADD', KEYS[2], number, ARGV[1])
if KEYS[4] then
  redis.call('ZADD', KEYS[4], number, ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -{ANSWERS_KEPT + 1})
  redis.call('PEXPIRE', KEYS[4], ARGV[2])
end
return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3))
"""
# Ids with what PURGE said of each; the record names them all.
APPEND_PURGED = """
local gone, named, stored = 0, {}, {}
for i = 2, #ARGV, 2 do
  local listed = redis.call('ZREM', KEYS[2], ARGV[i]) == 1
  if listed or ARGV[i + 1] ~= '-1' then gone = gone + 1 end
  named[#named + 1] = ARGV[i]
  stored[#stored + 1] = ARGV[i + 1]
end
return {gone, redis.call('XADD', KEYS[1], '*', 'kind', 'removed', 'ids', cjson.encode(named),
  'stored', '[' .. table.concat(stored, ',') .. ']', 'purged', '1', 'origin', ARGV[1])}
"""
# Ids with their version, their place when its document was looked at, and what DISCARD said of
# that. Who has another place by now was stored anew.
APPEND_DISCARDED = """
local named, created = {}, {}
for i = 2, #ARGV, 4 do
  local gone, place = tonumber(ARGV[i + 3]), redis.call('ZSCORE', KEYS[2], ARGV[i])
  local listed = gone > 0 and place and tonumber(place) == tonumber(ARGV[i + 2])
  if listed then redis.call('ZREM', KEYS[2], ARGV[i]) end
  if listed or gone == 2 then
    named[#named + 1], created[#created + 1] = ARGV[i], ARGV[i + 1]
  end
end
if #named == 0 then return {0, false} end
return {#named, redis.call('XADD', KEYS[1], '*', 'kind', 'removed', 'ids', cjson.encode(named),
  'created', '[' .. table.concat(created, ',') .. ']', 'purged', '0', 'origin', ARGV[1])}
"""
# Ids with the places at which they had no document. Who has another place by now was stored anew.
APPEND_VANISHED = """
local named = {}
for i = 2, #ARGV, 2 do
  local place = redis.call('ZSCORE', KEYS[2], ARGV[i])
  if place and tonumber(place) == tonumber(ARGV[i + 1]) then
    redis.call('ZREM', KEYS[2], ARGV[i])
    named[#named + 1] = ARGV[i]
  end
end
if #named == 0 then return false end
return redis.call('XADD', KEYS[1], '*', 'kind', 'removed', 'ids', cjson.encode(named),
  'purged', '1', 'origin', ARGV[1])
"""


async def append(client: Redis, keys: Keys, change: Change, *, origin: str) -> int:
    """Append a change that is in the journal only; return its position.

    `origin` is this replica's id. To be called through RedisConnection.ask, which turns what it
    raises into StoreUnavailable; a call that was cut off may have taken effect.
    """
    return position_of(await reply_to(client, *append_command(keys, change, origin)))


def append_command(keys: Keys, change: Change, origin: str) -> Command:
    """Return the command that appends a change; its reply is the stream id."""
    script = (IF_ROOM if isinstance(change, Put | Learnt) else THOUGH_FULL) + APPEND
    return ("EVAL", script, 1, keys.journal, *record(encode_change(change), origin))


def put_command(
    keys: Keys, id: EntryId, answer_id: str, fields: Fields, origin: str, expire_ms: int
) -> Command:
    """Return the command that notes a put, once the document is stored; its reply is the stream id.

    `fields` are those of codec.put_fields; `answer_id` may be "".
    """
    names = [keys.journal, keys.entries, keys.puts]
    if answer_id:
        names.append(keys.answer(answer_id))
    script = IF_ROOM + APPEND_PUT
    return ("EVAL", script, len(names), *names, id, expire_ms, *record(fields, origin))


def purged_command(keys: Keys, there: Iterable[tuple[EntryId, int]], origin: str) -> Command:
    """Return the command that notes a purge, once the documents are deleted.

    `there` says of each id when its document was stored, in microseconds; 0: nobody knows, -1: it
    had none. The reply is how many there were, and the
    stream id. The record names all of the ids: some replica may hold what Redis has already lost.
    """
    flags: list[str | int] = []
    for id, stored in there:
        flags += (id, stored)
    return ("EVAL", THOUGH_FULL + APPEND_PURGED, 2, keys.journal, keys.entries, origin, *flags)


def discarded_command(
    keys: Keys, found: Iterable[tuple[Version, bytes | None, int]], origin: str
) -> Command:
    """Return the command that notes what was discarded, once the documents are deleted.

    `found` says of each version what place its id had among the entries, and what became of its
    document. The reply is how many there were, and the stream id or None: nothing is noted when
    there were none.
    """
    said: list[str | int | bytes] = []
    for (id, at), place, gone in found:
        said += (id, microseconds(at), place or b"", gone)
    return ("EVAL", THOUGH_FULL + APPEND_DISCARDED, 2, keys.journal, keys.entries, origin, *said)


def vanished_command(keys: Keys, places: Iterable[tuple[EntryId, int]], origin: str) -> Command:
    """Return the command that notes entries whose documents are found to be gone.

    Redis has evicted them or let them expire, or a purge was cut off before it was noted: replicas
    may hold them and their answers. The reply is the stream id, or None if all were stored anew.
    """
    said: list[str | int] = []
    for id, number in places:
        said += (id, number)
    return ("EVAL", THOUGH_FULL + APPEND_VANISHED, 2, keys.journal, keys.entries, origin, *said)


def record(fields: Fields, origin: str) -> tuple[bytes | str, ...]:
    """Return a record's names and values in turn, the origin among them."""
    return (*chain.from_iterable(fields.items()), ORIGIN, origin)
