-- Order that parked instances of a partition be retried or skipped.
--
-- KEYS[1]  parked  hash   by instance    KEYS[2]  parked-orders  hash   by instance, the order and when it was given
-- ARGV[1]  order: retry or skip          ARGV[2 ..]  instances
--
-- Returns for each 1, or 0 where it is not parked.

local time = redis.call('TIME')
local order, found = ARGV[1] .. '#' .. time[1] .. '.' .. time[2], {}
for i = 2, #ARGV do
  found[i - 1] = redis.call('HEXISTS', KEYS[1], ARGV[i])
  if found[i - 1] == 1 then redis.call('HSET', KEYS[2], ARGV[i], order) end
end
return found
