"""What replicas ask of Redis together: each script reads one moment, by the server's clock."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

from redis.asyncio import Redis

from store.redis.codec import position_of, stream_id
from store.redis.connection import RedisConnection
from store.redis.keys import Keys

POLL_SECONDS = 0.01
READ_AT_ONCE = 500  # records
BLOCK_MS = 500
ALLOWED_FULL = "#!lua flags=allow-oom\n"
NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

# Notes where this replica is and for how long it may serve without asking, and tells where the
# journal is. Whoever was last seen a day ago is forgotten.
BEAT = f"""{ALLOWED_FULL}{NOW}
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2] .. ' ' .. now)
redis.call('HSET', KEYS[6], ARGV[1], ARGV[3])
local seen = redis.call('HGETALL', KEYS[3])
for i = 1, #seen, 2 do
  local at = tonumber(string.match(seen[i + 1], ' (%d+)$') or '0')
  if now - at > 86400000 then
    redis.call('HDEL', KEYS[3], seen[i])
    redis.call('HDEL', KEYS[6], seen[i])
  end
end
local mine = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2], 'COUNT', 1)
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local waiting = redis.call('SCARD', KEYS[4])
if waiting > 0 and now > tonumber(redis.call('GET', KEYS[5]) or '0') then
  redis.call('DEL', KEYS[4], KEYS[5])
  waiting = 0
end
return {{redis.call('GET', KEYS[2]) or '', #mine, first[1] and first[1][1] or '0-0',
  last[1] and last[1][1] or '0-0', waiting}}
"""
# Begins another epoch unless somebody else just has: everybody known has to join anew.
RENEW = f"""{ALLOWED_FULL}{NOW}
local epoch = redis.call('GET', KEYS[1]) or ''
if epoch ~= ARGV[1] then return epoch end
redis.call('SET', KEYS[1], ARGV[2])
local seen = redis.call('HKEYS', KEYS[2])
for _, name in ipairs(seen) do redis.call('SADD', KEYS[3], name) end
redis.call('SADD', KEYS[3], ARGV[3])
redis.call('SET', KEYS[4], now + tonumber(ARGV[4]))
return ARGV[2]
"""
# Returns for how many ms a live one that has not applied a record yet may serve at most, 0 if there
# is none. Who was not seen for so long serves nothing. ARGV[3] stands for whoever does not say.
BEHIND = f"""{NOW}
local longest = 0
local seen = redis.call('HGETALL', KEYS[1])
for i = 1, #seen, 2 do
  local ms, seq, at = string.match(seen[i + 1], '^(%d+)-(%d+) (%d+)$')
  local before = tonumber(ms) < tonumber(ARGV[1])
    or (tonumber(ms) == tonumber(ARGV[1]) and tonumber(seq) < tonumber(ARGV[2]))
  local may = tonumber(redis.call('HGET', KEYS[2], seen[i]) or ARGV[3])
  if before and now - tonumber(at) <= may then longest = math.max(longest, may) end
end
return longest
"""


# Names who was seen lately.
ALIVE = f"""{NOW}
local alive = {{}}
local seen = redis.call('HGETALL', KEYS[1])
for i = 1, #seen, 2 do
  local at = tonumber(string.match(seen[i + 1], ' (%d+)$') or '0')
  if now - at <= tonumber(ARGV[1]) then table.insert(alive, seen[i]) end
end
return alive
"""


class Beat(NamedTuple):
    """Where the journal is."""

    epoch: str  # "": there is none
    here: bool  # whether the record at this replica's position is still kept
    first: int  # position of the oldest record that is kept; 0: there is none
    last: int  # of the newest
    joining: int  # replicas that a new epoch still waits for


async def beat(
    client: Redis, keys: Keys, replica: str, position: int, max_staleness_ms: int
) -> Beat:
    """Note where this replica is and for how long it may serve; return where the journal is."""
    names = [keys.journal, keys.epoch, keys.replicas, keys.joining, keys.joining_until]
    names.append(keys.staleness)
    told = (replica, stream_id(position), max_staleness_ms)
    answer = await client.eval(BEAT, len(names), *names, *told)
    epoch, here, first, last, joining = answer
    return Beat(epoch.decode(), bool(here), position_of(first), position_of(last), joining)


async def renew(
    client: Redis, keys: Keys, replica: str, *, old: str, new: str, patience_ms: int
) -> str:
    """Begin the epoch `new` unless the present one is no longer `old`; return the one that rules.

    For `patience_ms` it waits for every known replica to hold against it what it remembers.
    """
    names = [keys.epoch, keys.replicas, keys.joining, keys.joining_until]
    ruling = await client.eval(RENEW, len(names), *names, old, new, replica, patience_ms)
    return str(ruling, "ascii")


async def behind(client: Redis, keys: Keys, position: int, max_staleness_ms: int) -> int:
    """Return for how many ms a live replica that has not applied a record may serve; 0: none.

    `max_staleness_ms` is that of replicas of before, which do not say theirs.
    """
    names, place = (keys.replicas, keys.staleness), stream_id(position).split(b"-")
    return int(await client.eval(BEHIND, len(names), *names, *place, max_staleness_ms))


async def alive(client: Redis, keys: Keys, within_ms: int) -> set[str]:
    """Return the names of the replicas that were seen within so many milliseconds."""
    return {name.decode() for name in await client.eval(ALIVE, 1, keys.replicas, within_ms)}


async def settled(connection: RedisConnection, keys: Keys, max_staleness: float) -> None:
    """Wait until no live replica can serve what a record so far has taken back.

    That is when all have applied it, or when those that have not may serve nothing any more, each
    by its own `max_staleness`; this one, in seconds, is of those that do not say. Raises
    StoreUnavailable.
    """
    since = time.monotonic()
    found: Any = await connection.ask(lambda r: r.xrevrange(keys.journal, count=1))
    end = position_of(found[0][0]) if found else 0
    limit = int(max_staleness * 1000)
    while longest := await connection.ask(lambda r: behind(r, keys, end, limit)):
        if time.monotonic() - since >= longest / 1000:
            return
        await asyncio.sleep(POLL_SECONDS)


async def read_after(client: Redis, keys: Keys, place: bytes) -> tuple[Any, bool]:
    """Return what follows a record in the journal, and whether that record was still there then.

    The journal is cut from its beginning only, so if it was, nothing between is missing.
    """
    pipeline = client.pipeline(transaction=False)
    pipeline.xread({keys.journal: place}, count=READ_AT_ONCE, block=BLOCK_MS)
    pipeline.xrange(keys.journal, place, place, count=1)
    found, here = await pipeline.execute()
    return found, bool(here)


async def joined(client: Redis, keys: Keys, replica: str) -> None:
    """Let the epoch not wait for this replica any more."""
    await client.srem(keys.joining, replica)


async def leave(client: Redis, keys: Keys, replica: str) -> None:
    """Let nobody wait for this replica any more."""
    await client.hdel(keys.replicas, replica)
    await client.hdel(keys.staleness, replica)
    await client.srem(keys.joining, replica)
