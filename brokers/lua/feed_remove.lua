-- Forget a reader of a partition's feed. A feed without readers is emptied; commit.lua writes it no longer.
--
-- KEYS[1]  readers  hash    KEYS[2]  reading  hash    KEYS[3]  feed  stream
-- KEYS[4]  parked, KEYS[5]  parked-orders, KEYS[6]  applied: hashes of this reader alone
-- ARGV[1]  reader
--
-- Returns 1 if it was known, else 0.

local reader = ARGV[1]
local known = redis.call('HDEL', KEYS[1], reader)
redis.call('HDEL', KEYS[2], reader .. '/count', reader .. '/walk', reader .. '/walked')
redis.call('UNLINK', KEYS[4], KEYS[5], KEYS[6])
-- Trimmed, not deleted: the stream remembers its last id, so that positions never go back.
if redis.call('EXISTS', KEYS[1]) == 0 and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('XTRIM', KEYS[3], 'MAXLEN', 0)
end
return known
