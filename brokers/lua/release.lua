-- Give up leases that are still ours, so that the next holder need not wait.
--
-- KEYS[i]      actor  hash   of instance i
-- ARGV[1]      owner
-- ARGV[1 + i]  the token under which instance i was held
--
-- Returns how many were given up.

local count = 0
for i, actor in ipairs(KEYS) do
  local owner, token = unpack(redis.call('HMGET', actor, 'owner', 'token'))
  if owner == ARGV[1] and token == ARGV[1 + i] then
    redis.call('HSET', actor, 'owner', '', 'lease_until', 0)
    count = count + 1
  end
end
return count
