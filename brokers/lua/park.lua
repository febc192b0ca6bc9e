-- Keep parked instances of a partition, or forget them; what a person ordered for them is done with.
--
-- KEYS[1]  parked   hash   by instance
-- KEYS[2]  parked-orders  hash   by instance
-- KEYS[3]  readers  hash   by reader, the last entry that it is done with
-- ARGV[1]  reader    ARGV[2 ..]  pairs of instance and what is kept of it, empty to forget it
--
-- Returns 1, or 0 where the reader was removed; nothing was written then.

if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 0 then return 0 end
for i = 2, #ARGV, 2 do
  redis.call('HDEL', KEYS[2], ARGV[i])
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return 1
