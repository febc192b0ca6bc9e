-- Remember refusals that callers are about to be told, and forget those that are old enough.
--
-- KEYS[1]  refused     hash   command id to answer
-- KEYS[2]  refused-at  zset   command ids by time
-- ARGV[1]  keep_ms, then pairs of command id and answer
--
-- Returns how many old ones were forgotten: at most a hundred a call, so that no call is long.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[2], now, ARGV[i])
end
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[1]), 'LIMIT', 0, 100)
for _, id in ipairs(old) do
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
end
return #old
