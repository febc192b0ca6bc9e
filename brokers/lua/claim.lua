-- Become the one who serves a partition, unless somebody else does.
--
-- KEYS[1]  serving  hash   by pool, the member that serves the partition
-- ARGV[1]  pool    ARGV[2]  member    ARGV[3]  the member to take it from, who is dead, or '' for none
--
-- Returns who serves the partition now.

local holder = redis.call('HGET', KEYS[1], ARGV[1])
if holder and holder ~= ARGV[2] and holder ~= ARGV[3] then return holder end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return ARGV[2]
