-- Move effects from the outbox to the schedule; what is due there comes back into the outbox.
--
-- KEYS[1]  effects   stream  the outbox
-- KEYS[2]  serving   hash    by pool, the member that serves the partition
-- KEYS[3]  begun     hash    by effect name, `<attempts>|<when>|<holder>`
-- KEYS[4]  notes     hash    by effect name, why it was put off
-- KEYS[5]  schedule  zset    names by due time
-- KEYS[6]  timers    hash    by name, the bytes of the effect
-- KEYS[7]  names     zset    the names of the hash
-- ARGV[1]  owner     ARGV[2]  what the names in the schedule begin with
-- ARGV[3 ..]  for each effect its position, its name, the delay in milliseconds, and the note
--
-- Returns for each effect 1 if it was put off, 0 if it is not there or not the caller's (as in finish.lua).
--
-- It keeps its attempts and has no holder any more.

local owner, prefix = ARGV[1], ARGV[2]
local serving = redis.call('HGET', KEYS[2], 'effect')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replies = {}

for i = 3, #ARGV, 4 do
  local position, name, delay, note = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local begun = redis.call('HGET', KEYS[3], name)
  local count, began, holder = string.match(begun or '0||', '^(%d+)|(%d*)|(.*)$')
  local ours = holder == owner or (holder == '' and (not serving or serving == owner))
  local found = ours and redis.call('XRANGE', KEYS[1], position, position) or {}
  if #found > 0 then
    redis.call('ZADD', KEYS[5], now + delay, prefix .. name)
    redis.call('HSET', KEYS[6], prefix .. name, found[1][2][2])
    redis.call('ZADD', KEYS[7], 0, prefix .. name)
    redis.call('HSET', KEYS[4], name, note)
    if begun then redis.call('HSET', KEYS[3], name, count .. '|' .. began .. '|') end
    redis.call('XDEL', KEYS[1], position)
    replies[#replies + 1] = 1
  else
    replies[#replies + 1] = 0
  end
end
return replies
