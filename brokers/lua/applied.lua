-- Keep up to which record instances of a partition are applied; it never goes back.
--
-- KEYS[1]  applied  hash   by instance
-- ARGV[1 ..]  pairs of instance and seq
--
-- Returns how many went forward.

local count = 0
for i = 1, #ARGV, 2 do
  if tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    count = count + 1
  end
end
return count
