-- Keep how far a reader has come in a partition, and wake who waits for it.
--
-- KEYS[1]  readers  hash   by reader, the last entry that it is done with
-- KEYS[2]  reading  hash   by <reader>/count, /walk and /walked, what else it is done with
-- KEYS[3]  serving  hash   by pool, the member that serves the partition
-- ARGV[1]  owner    ARGV[2]  reader    ARGV[3]  position    ARGV[4]  how many entries more
-- ARGV[5]  walked, how many instances more    ARGV[6]  '1' there is a walk, '0' it is done    ARGV[7]  where it goes on
-- ARGV[8]  channel    ARGV[9]  partition
--
-- Returns 1, or 0 where somebody else serves the partition or the reader was removed.

local holder = redis.call('HGET', KEYS[3], 'projection')
if holder and holder ~= ARGV[1] then return 0 end
local reader = ARGV[2]
if redis.call('HEXISTS', KEYS[1], reader) == 0 then return 0 end
redis.call('HSET', KEYS[1], reader, ARGV[3])
redis.call('HINCRBY', KEYS[2], reader .. '/count', ARGV[4])
redis.call('HINCRBY', KEYS[2], reader .. '/walked', ARGV[5])
if ARGV[6] == '1' then
  redis.call('HSET', KEYS[2], reader .. '/walk', ARGV[7])
else
  redis.call('HDEL', KEYS[2], reader .. '/walk')
end
redis.call('PUBLISH', ARGV[8], ARGV[9])
return 1
