-- Keep parked instances of a partition, or forget them, and the orders of a person that were carried out.
--
-- KEYS[1]  parked   hash   by instance
-- KEYS[2]  parked-orders  hash   by instance
-- KEYS[3]  readers  hash   by reader, the last entry that it is done with
-- ARGV[1]  reader    ARGV[2 ..]  threes of instance, what is kept of it (empty to forget it, and every order for it), and
--          the order that was carried out, empty for none; a newer one stays
--
-- Returns 1, or 0 where the reader was removed; nothing was written then.

if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 0 then return 0 end
for i = 2, #ARGV, 3 do
  local instance, kept, done = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if kept == '' then
    redis.call('HDEL', KEYS[1], instance)
    redis.call('HDEL', KEYS[2], instance)
  else
    redis.call('HSET', KEYS[1], instance, kept)
    if done ~= '' and redis.call('HGET', KEYS[2], instance) == done then redis.call('HDEL', KEYS[2], instance) end
  end
end
return 1
