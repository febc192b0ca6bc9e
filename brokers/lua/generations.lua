-- Replace the generations of a projection, if they are still what the caller thinks.
--
-- KEYS[1]  projections  hash   by projection
-- ARGV[1]  projection    ARGV[2]  old, '' for none    ARGV[3]  new, '' to forget the projection
--
-- Returns 1 if they were replaced, else 0.

if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1], ARGV[1] .. '/orders')
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
