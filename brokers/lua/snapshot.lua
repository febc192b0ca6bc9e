-- Keep a snapshot, if its instance is still exactly where it was taken: a snapshot of a fork is never kept.
--
-- KEYS[1]  actor  hash     KEYS[2]  snap  hash
-- ARGV[1]  seq    ARGV[2]  head    ARGV[3]  data
--
-- Returns 1 if it was kept, else 0.

local seq, head = unpack(redis.call('HMGET', KEYS[1], 'seq', 'head'))
if seq ~= ARGV[1] or head ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], 'seq', ARGV[1], 'data', ARGV[3])
return 1
