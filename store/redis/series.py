"""Numbered rows of one kind in Redis: a sorted set of names by number, a hash of rows by name.

Every write cuts them to their bound, the oldest first. A row is added again under the same name
as the newest.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import orjson

from store.errors import StoreUnavailable
from store.redis.appending import THOUGH_FULL
from store.redis.exchange import Command
from store.redis.keys import Keys

# KEYS: order, rows, number; ARGV: name ('' for its number), row, bound.
ADD = """
local function add(first, name, row, keep)
  local order, rows = KEYS[first], KEYS[first + 1]
  local number = redis.call('INCR', KEYS[first + 2])
  if name == '' then name = string.format('%.0f', number) end
  redis.call('ZADD', order, number, name)
  redis.call('HSET', rows, name, row)
  local over = redis.call('ZCARD', order) - tonumber(keep)
  if over > 0 then
    for _, old in ipairs(redis.call('ZRANGE', order, 0, over - 1)) do
      redis.call('ZREM', order, old)
      redis.call('HDEL', rows, old)
    end
  end
  return number
end
"""
ADD_ROW = f"{ADD} return add(1, ARGV[1], ARGV[2], ARGV[3])"
LIST = """
local found = redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[1], '-inf',
  'WITHSCORES', 'LIMIT', 0, ARGV[2])
local answer = {}
for i = 1, #found, 2 do
  answer[#answer + 1] = found[i + 1]
  answer[#answer + 1] = redis.call('HGET', KEYS[2], found[i]) or ''
end
return answer
"""
# Names in ARGV; the reply is how many there were.
DISCARD = """
local gone = 0
for _, name in ipairs(ARGV) do
  redis.call('HDEL', KEYS[2], name)
  gone = gone + redis.call('ZREM', KEYS[1], name)
end
return gone
"""


class Series(NamedTuple):
    """One kind of rows."""

    keys: Keys
    name: str
    keep: int

    @property
    def names(self) -> tuple[str, str, str]:
        """The keys of its order, its rows and its last number."""
        of = self.keys.common
        return of(self.name), of(f"{self.name}:rows"), of(f"{self.name}:number")

    def add_command(self, row: bytes, name: bytes = b"", script: str = THOUGH_FULL) -> Command:
        """Return the command that adds a row; the reply is its number. b"": named by that."""
        return ("EVAL", script + ADD_ROW, 3, *self.names, name, row, self.keep)


def sealed(*values: Any) -> bytes:
    """Return the values as a row with its checksum; StoreUnavailable for texts no Unicode has."""
    row = name_of(*values)
    return b"%08x" % zlib.crc32(row) + row


def opened(row: bytes) -> list[Any] | None:
    """Return the values of a row; None if it is damaged."""
    if row[:8] != b"%08x" % zlib.crc32(row[8:]):
        return None
    values: list[Any] = orjson.loads(row[8:])
    return values


def name_of(*parts: Any) -> bytes:
    """Return a name of several parts; StoreUnavailable for texts no Unicode has."""
    try:
        return orjson.dumps(parts)
    except TypeError as error:
        raise StoreUnavailable(f"the row cannot be encoded: {error}") from error


def parts_of(name: bytes) -> tuple[str, ...]:
    """Return the parts of a name."""
    return tuple(orjson.loads(name))
