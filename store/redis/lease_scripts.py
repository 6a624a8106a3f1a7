"""What changes one flight's keys in Redis, each as one step.

Of a flight there are (`FLIGHT` is `{prefix:flight:ID}`, braces included, so that they share a
slot):

    FLIGHT:lease      hash: token, nonce (of the one who asked), seq (pieces published), signed,
                      followed and ended (ms of Redis's clock), closed (too long to be shared)
    FLIGHT:token      the last token, while a paused leader may still have it
    FLIGHT:landed     token of the answer that was just stored
    FLIGHT:out:TOKEN  stream: piece N has the id N-0, so that sending one twice changes nothing

Times come from Redis's own clock: replicas' clocks need not agree.
"""

from __future__ import annotations

_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

# KEYS lease, token, landed; ARGV nonce, lease ms, whether to mind a landing, joinable ms,
# ms for which the last token is remembered. Returns {what, token, ms since the leader's last sign}.
# A token is the clock in microseconds: it grows though the last one is forgotten.
ACQUIRE = (
    _NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'token', 'signed', 'ended', 'closed')
if held[1] then
    local ended = held[3] and now - held[3] > tonumber(ARGV[4])
    if ended or held[4] then return {'closed', held[1], 0} end
    redis.pcall('HSET', KEYS[1], 'followed', now)
    return {'following', held[1], math.max(0, now - held[2])}
end
local landed = redis.call('GET', KEYS[3])
if landed and ARGV[3] == '1' then return {'landed', landed, 0} end
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local token = string.format('%.0f', math.max(clock[1] * 1000000 + clock[2], last + 1))
redis.call('HSET', KEYS[1], 'token', token, 'nonce', ARGV[1], 'signed', now, 'seq', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], token, 'PX', ARGV[5])
return {'leading', token, 0}
"""
)

# KEYS lease, out; ARGV token, lease ms, ms that the output is kept. Returns {0} if the lease is
# lost, else {1, ms since somebody followed, or -1}.
RENEW = (
    _NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'token', 'followed')
if held[1] ~= ARGV[1] then return {0, -1} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {1, held[2] and now - held[2] or -1}
"""
)

# KEYS lease, out; ARGV token, ms that the output is kept, number of the oldest piece to keep,
# number of the first piece sent, then kind and data of each. Returns as RENEW does.
PUBLISH = (
    _NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'token', 'followed', 'seq')
if held[1] ~= ARGV[1] then return {0, -1} end
local number, seq = tonumber(ARGV[4]), tonumber(held[3])
for i = 5, #ARGV, 2 do
    if number > seq then
        redis.call('XADD', KEYS[2], number .. '-0', ARGV[i], ARGV[i + 1])
        if ARGV[i] ~= 'h' and ARGV[i] ~= 'c' then redis.call('HSET', KEYS[1], 'ended', now) end
        seq = number
    end
    number = number + 1
end
redis.call('HSET', KEYS[1], 'seq', seq, 'signed', now)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
if tonumber(ARGV[3]) > 1 then
    redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3] .. '-0')
    redis.call('HSET', KEYS[1], 'closed', 1)
end
return {1, held[2] and now - held[2] or -1}
"""
)

# KEYS lease, landed, out; ARGV token, nonce, ms of the landing or 0, ms that the output is kept.
# Whoever does not know its token, as the answer was late, gives '' and is known by its nonce.
RELEASE = """
local held = redis.call('HMGET', KEYS[1], 'token', 'nonce')
if not held[1] or held[2] ~= ARGV[2] or (ARGV[1] ~= '' and held[1] ~= ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
if ARGV[3] ~= '0' then redis.pcall('SET', KEYS[2], held[1], 'PX', ARGV[3]) end
return 1
"""

# KEYS lease; ARGV token. Says that somebody follows; returns whether this leader still leads.
WATCH = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.pcall('HSET', KEYS[1], 'followed', now)
return 1
"""
)


def flight_key(prefix: str, id: str) -> str:
    """Return what all keys of one flight begin with; its braces make them share a slot."""
    return f"{{{prefix}:flight:{id}}}"
