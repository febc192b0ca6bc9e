-- Have names of timers listed if they are in the hash of timers, and only then.
--
-- KEYS[1]  timers  hash    by name, the bytes
-- KEYS[2]  names   zset    the names of the hash, all of one score
-- ARGV     names
--
-- Returns how many are in the hash.

local count = 0
for _, name in ipairs(ARGV) do
  if redis.call('HEXISTS', KEYS[1], name) == 1 then
    redis.call('ZADD', KEYS[2], 0, name)
    count = count + 1
  else
    redis.call('ZREM', KEYS[2], name)
  end
end
return count
