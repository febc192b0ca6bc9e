-- Become the one who serves a partition, unless one of the living does.
--
-- KEYS[1]  serving  hash   by pool, the member that serves the partition
-- ARGV[1]  pool    ARGV[2]  member    ARGV[3 ..]  the living members
--
-- Returns 1 if the member serves the partition now, else 0.

local holder = redis.call('HGET', KEYS[1], ARGV[1])
if holder and holder ~= ARGV[2] then
  for i = 3, #ARGV do
    if ARGV[i] == holder then return 0 end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
