-- Become the holder of effects, and count an attempt of each.
--
-- KEYS[1]  effects  stream   the outbox
-- KEYS[2]  serving  hash     by pool, the member that serves the partition
-- KEYS[3]  begun    hash     by effect name, `<attempts>|<when>|<holder>`
-- ARGV[1]  owner    ARGV[2]  how many dead holders are named    ARGV[3 ..]  they
-- then for each effect: its position, its name, and how many attempts the caller knows of
--
-- Returns 'fenced' when another serves the partition, else for each effect one of
--   {'begun', attempts}
--   {'held', holder, attempts}   another began it, and is not named as dead
--   {'gone'}                     it is not there
--
-- A holder that asks again and does not know of its last attempt has lost the answer: it is not counted twice.

local owner, named = ARGV[1], tonumber(ARGV[2])
local serving = redis.call('HGET', KEYS[2], 'effect')
if serving and serving ~= owner then return 'fenced' end
local dead = {}
for i = 3, 2 + named do dead[ARGV[i]] = true end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local replies = {}

for i = 3 + named, #ARGV, 3 do
  local position, name, seen = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local reply
  if #redis.call('XRANGE', KEYS[1], position, position) == 0 then
    reply = {'gone'}
  else
    local count, _, holder = string.match(redis.call('HGET', KEYS[3], name) or '0||', '^(%d+)|(%d*)|(.*)$')
    count = tonumber(count) or 0
    if holder and holder ~= '' and holder ~= owner and not dead[holder] then
      reply = {'held', holder, count}
    else
      if holder ~= owner or count <= seen then
        count = count + 1
        redis.call('HSET', KEYS[3], name, count .. '|' .. now .. '|' .. owner)
      end
      reply = {'begun', count}
    end
  end
  replies[#replies + 1] = reply
end
return replies
