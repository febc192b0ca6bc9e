-- Read the feed of a partition behind a position, unless somebody else serves it or the reader was removed.
--
-- KEYS[1]  feed     stream
-- KEYS[2]  serving  hash   by pool, the member that serves the partition
-- KEYS[3]  readers  hash   by reader, the last entry that it is done with
-- ARGV[1]  owner    ARGV[2]  reader    ARGV[3]  position    ARGV[4]  the most to read
--
-- Returns the entries, or 'fenced'.

local holder = redis.call('HGET', KEYS[2], 'projection')
if holder and holder ~= ARGV[1] then return 'fenced' end
if redis.call('HEXISTS', KEYS[3], ARGV[2]) == 0 then return 'fenced' end
return redis.call('XRANGE', KEYS[1], '(' .. ARGV[3], '+', 'COUNT', ARGV[4])
