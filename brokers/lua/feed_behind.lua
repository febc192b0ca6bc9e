-- Say how far a reader is behind in a partition.
--
-- KEYS[1]  readers  hash   by reader, the last entry that it is done with
-- KEYS[2]  reading  hash   by <reader>/count, /walk and /walked, what else it is done with
-- KEYS[3]  feed     stream
-- KEYS[4]  parked   hash   of this reader
-- ARGV[1]  reader
--
-- Returns {position, walk or false, walked, entries behind, milliseconds, parked}; nothing for a reader that is not known.

local reader = ARGV[1]
local position = redis.call('HGET', KEYS[1], reader)
if not position then return {} end
local walk, walked, count = unpack(redis.call('HMGET', KEYS[2], reader .. '/walk', reader .. '/walked', reader .. '/count'))
local behind, age = 0, 0
local first = redis.call('XRANGE', KEYS[3], '(' .. position, '+', 'COUNT', 1)
if first[1] then
  local added = 0
  local info = redis.call('XINFO', 'STREAM', KEYS[3])
  for i = 1, #info, 2 do
    if info[i] == 'entries-added' then added = info[i + 1] end
  end
  behind = math.max(1, added - (tonumber(count) or 0))
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  age = math.max(0, now - tonumber(string.match(first[1][1], '^%d+')))
end
return {position, walk, walked or 0, behind, age, redis.call('HLEN', KEYS[4])}
