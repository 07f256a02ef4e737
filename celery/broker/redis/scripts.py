"""What happens to messages on the server in one step: taken, given back, brought back. No step can lose or double one.

A worker is a member of the set `REGISTRY`, whose score is the moment, by Redis's own clock, until which it counts as
alive. What it holds is a hash of its own: number of the delivery -> name of the list, a NUL, and the message.

Each script begins with a write that changes nothing: Redis looks for memory only before the first write of a script,
and lets this one pass. Otherwise a Redis that is full could not be emptied by its workers.
"""

from typing import Final

REGISTRY: Final = "celery.consumers"
HELD: Final = "celery.held."

#: KEYS: REGISTRY, and ARGV: consumer, milliseconds. Makes the consumer a member.
JOIN: Final = """
redis.call('PERSIST', KEYS[1])
local now = redis.call('TIME')
return redis.call('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2], ARGV[1])
"""

#: KEYS: REGISTRY, hash, lists from the most urgent. ARGV: consumer, milliseconds, most messages, most bytes, number of
#: the first. Answers pairs of a list's place and a message; false if the consumer is no member any more, or its time is
#: over.
TAKE: Final = """
redis.call('PERSIST', KEYS[1])
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local alive_until = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not alive_until or tonumber(alive_until) < now then return false end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
local most, room, number = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local found = {}
for place = 3, #KEYS do
  while #found < 2 * most and room > 0 do
    local item = redis.call('LINDEX', KEYS[place], -1)
    if not item then break end
    redis.call('HSET', KEYS[2], number, KEYS[place] .. '\\0' .. item)
    redis.call('RPOP', KEYS[place])
    number = number + 1
    room = room - #item
    found[#found + 1] = place - 3
    found[#found + 1] = item
  end
end
return found
"""

#: KEYS: hash. ARGV: numbers. Returns what is held under them to the heads of their lists, in their order.
GIVE_BACK: Final = """
redis.call('PERSIST', KEYS[1])
for place = #ARGV, 1, -1 do
  local held = redis.call('HGET', KEYS[1], ARGV[place])
  if held then
    local cut = string.find(held, '\\0', 1, true)
    redis.call('RPUSH', string.sub(held, 1, cut - 1), string.sub(held, cut + 1))
    redis.call('HDEL', KEYS[1], ARGV[place])
  end
end
"""

#: KEYS: REGISTRY. ARGV: HELD, most messages, consumer or an empty text. Brings back, marked as delivered before, what
#: that consumer holds, or else one whose time is over; removes it when nothing is left. Answers the number of messages
#: and the consumer, empty if there is none.
BRING_BACK: Final = """
redis.call('PERSIST', KEYS[1])
local lost = ARGV[3]
if lost == '' then
  local now = redis.call('TIME')
  now = now[1] * 1000 + math.floor(now[2] / 1000)
  lost = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
end
if not lost then return {0, ''} end
local hash = ARGV[1] .. lost
local numbers = redis.call('HKEYS', hash)
table.sort(numbers, function(a, b) return (tonumber(a) or 0) > (tonumber(b) or 0) end)
local count = math.min(#numbers, tonumber(ARGV[2]))
local mark = '{"redelivered": true, '
for place = 1, count do
  local held = redis.call('HGET', hash, numbers[place])
  local cut = string.find(held, '\\0', 1, true)
  local item = string.sub(held, cut + 1)
  if string.sub(item, 1, 2) == '{"' and string.sub(item, 1, #mark) ~= mark then
    item = mark .. string.sub(item, 2)
  end
  redis.call('RPUSH', string.sub(held, 1, cut - 1), item)
  redis.call('HDEL', hash, numbers[place])
end
if count == #numbers then redis.call('ZREM', KEYS[1], lost) end
return {count, lost}
"""
