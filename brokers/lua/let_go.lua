-- Hold no effects of a partition any more that its former server does not know of: nobody else would come to them.
--
-- KEYS[1]  serving  hash   by pool, the member that serves the partition
-- KEYS[2]  begun    hash   by effect name, `<attempts>|<when>|<holder>`
-- ARGV[1]  owner    ARGV[2 ..]  the names of those that it knows of, and keeps
--
-- Returns how many were let go, their last attempts uncounted; -1 while the owner serves the partition: then it finds
-- them in the outbox.

local owner = ARGV[1]
if redis.call('HGET', KEYS[1], 'effect') == owner then return -1 end
local kept, count = {}, 0
for i = 2, #ARGV do kept[ARGV[i]] = true end
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local attempts, began, holder = string.match(all[i + 1], '^(%d+)|(%d*)|(.*)$')
  if holder == owner and not kept[all[i]] then
    if tonumber(attempts) <= 1 then
      redis.call('HDEL', KEYS[2], all[i])
    else
      redis.call('HSET', KEYS[2], all[i], (attempts - 1) .. '|' .. began .. '|')
    end
    count = count + 1
  end
end
return count
