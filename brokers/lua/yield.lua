-- Stop serving a partition, if it is still us who does.
--
-- KEYS[1]  serving  hash
-- ARGV[1]  member    ARGV[2 ..]  pools
--
-- Returns how many pools were given up.

local count = 0
for i = 2, #ARGV do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[1] then
    count = count + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return count
