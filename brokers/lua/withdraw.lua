-- Remove what an instance that is over has left, as its caller found it.
--
-- KEYS[1]  actor     hash    of the instance
-- KEYS[2]  schedule  zset   \
-- KEYS[3]  timers    hash    |
-- KEYS[4]  effects   stream   } of the partition
-- KEYS[5]  dead      zset    |
-- KEYS[6]  dead-letters hash |
-- KEYS[7]  begun     hash    |
-- KEYS[8]  notes     hash    |
-- KEYS[9]  names     zset   /
-- KEYS[10] observations stream of the instance
-- ARGV[1]  what: 'timers', 'effects', 'dead' or 'observations'
-- ARGV[2 ..]  names of timers; ids of stream entries, each with the effect's name; ids of dead letters; or nothing
--
-- Returns how many were removed: none while the instance is not over, and dead letters and observations only when its
-- data was deleted. Observations count as one.

local run_state = redis.call('HGET', KEYS[1], 'run_state')
local deleted = ARGV[1] == 'dead' or ARGV[1] == 'observations'
if run_state ~= 'data-deleted' and (run_state ~= 'cancelled' or deleted) then return 0 end
if ARGV[1] == 'observations' then return redis.call('DEL', KEYS[10]) end
local count = 0
for i = 2, #ARGV, ARGV[1] == 'effects' and 2 or 1 do
  if ARGV[1] == 'timers' then
    redis.call('ZREM', KEYS[2], ARGV[i])
    redis.call('ZREM', KEYS[9], ARGV[i])
    count = count + redis.call('HDEL', KEYS[3], ARGV[i])
    if string.sub(ARGV[i], 1, 3) == '~e:' then
      redis.call('HDEL', KEYS[7], string.sub(ARGV[i], 4))
      redis.call('HDEL', KEYS[8], string.sub(ARGV[i], 4))
    end
  elseif ARGV[1] == 'effects' then
    count = count + redis.call('XDEL', KEYS[4], ARGV[i])
    redis.call('HDEL', KEYS[7], ARGV[i + 1])
    redis.call('HDEL', KEYS[8], ARGV[i + 1])
  else
    redis.call('ZREM', KEYS[5], ARGV[i])
    count = count + redis.call('HDEL', KEYS[6], ARGV[i])
  end
end
return count
