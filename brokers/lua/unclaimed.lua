-- Look whether a member is still the one who serves a partition, by what is claimed.
--
-- KEYS[1]  serving  hash   by pool, the member that serves the partition
-- ARGV[1]  member    ARGV[2 ..]  pools
--
-- Returns those of the pools in which it is not.

local lost = {}
for i = 2, #ARGV do
  if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[1] then lost[#lost + 1] = ARGV[i] end
end
return lost
