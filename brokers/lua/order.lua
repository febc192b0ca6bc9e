-- Order that parked instances of a partition be retried or skipped.
--
-- KEYS[1]  parked  hash   by instance    KEYS[2]  parked-orders  hash   by instance
-- ARGV[1]  order: retry or skip          ARGV[2 ..]  instances
--
-- Returns for each 1, or 0 where it is not parked.

local found = {}
for i = 2, #ARGV do
  found[i - 1] = redis.call('HEXISTS', KEYS[1], ARGV[i])
  if found[i - 1] == 1 then redis.call('HSET', KEYS[2], ARGV[i], ARGV[1]) end
end
return found
