"""The journal in Redis as a Journal: where it ends, what is in it, and what may be let go of.

Replicas follow it live (`replica.py`); this is for restarts, and for trimming. A record may go once
every replica that was seen within the hour has applied it, and no snapshot of one is from before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from store.errors import JournalGap
from store.journal import Mark, Record
from store.redis.codec import decode_change, position_of, stream_id
from store.redis.connection import RedisConnection
from store.redis.keys import Keys
from store.redis.replica import Replica

MOST = 1_000_000  # records: a replica that was away for longer loads everything anew

# A replica that has left, or was not seen, may come back within the hour and go on from where it
# was; one that comes later finds its place gone and loads everything anew. Positions are compared
# as padded texts.
TRIM = """#!lua flags=allow-oom
local t = redis.call('TIME')
local now = t[1] * 1000
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. now)
local function padded(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
end
local least, exact = padded(ARGV[2]), ARGV[2]
local function consider(id)
  local place = string.match(id, '^%S+')
  if padded(place) < least then least, exact = padded(place), place end
end
local seen = redis.call('HGETALL', KEYS[3])
local known = {}
local function lately(row) return now - tonumber(string.match(row, ' (%d+)$') or '0') < 3600000 end
for i = 1, #seen, 2 do
  if lately(seen[i + 1]) then known[seen[i]] = true; consider(seen[i + 1]) end
end
local kept = redis.call('HGETALL', KEYS[2])
for i = 1, #kept, 2 do
  if known[kept[i]] or lately(kept[i + 1]) then consider(kept[i + 1])
  else redis.call('HDEL', KEYS[2], kept[i]) end
end
local gone = redis.call('XTRIM', KEYS[1], 'MINID', exact)
return gone + redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[3])
"""


class RedisJournal:
    """The Journal of one prefix. The record at a snapshot's own position is kept, as its proof."""

    def __init__(self, connection: RedisConnection, keys: Keys, replica: Replica) -> None:
        self._connection = connection
        self._keys = keys
        self._replica = replica

    async def mark(self) -> Mark:
        return self._replica.mark

    async def read(self, after: Mark, batch: int) -> AsyncIterator[list[Record]]:
        if after.epoch != self._replica.epoch:
            raise JournalGap(f"the journal {after.epoch} is no more")
        last, end = after.position, self._replica.mark.position
        while last < end:
            least, most = b"(" + stream_id(last), stream_id(end)
            found: Any = await self._connection.ask(
                lambda r, least=least, most=most: r.xrange(  # type: ignore[misc]
                    self._keys.journal, least, most, count=batch
                )
            )
            part = []
            for number, fields in found:
                change = decode_change(fields)
                if change is None:
                    raise JournalGap(f"record {number.decode()} cannot be read")
                own = fields.get(b"origin") == self._replica.name.encode()
                part.append(Record(position_of(number), change, own))
            if not part:
                raise JournalGap(f"the records after {last} are no longer kept")
            last = part[-1].position
            yield part

    async def truncate(self, until: Mark) -> None:
        names = (self._keys.journal, self._keys.snapshots, self._keys.replicas)
        place = stream_id(until.position)
        name = self._replica.name
        await self._connection.ask(lambda r: r.eval(TRIM, 3, *names, name, place, MOST))
