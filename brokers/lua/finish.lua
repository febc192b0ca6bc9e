-- Remove effects that are done with, or only look whether the caller might.
--
-- KEYS[1]  effects  stream   the outbox
-- KEYS[2]  serving  hash     by pool, the member that serves the partition
-- KEYS[3]  begun    hash     by effect name, `<attempts>|<when>|<holder>`
-- KEYS[4]  notes    hash     by effect name, why it was put off
-- KEYS[5]  ended    stream   m, the mark of an effect, and a, how many attempts it took
-- ARGV[1]  owner    ARGV[2]  '1' remove, '0' only look    ARGV[3]  about how many ends are remembered
-- ARGV[4 ..]  for each effect its position, its name, its mark, and its attempts or 0 for an end that is told elsewhere
--
-- Returns for each effect 1 if it is there and the caller's, else 0.
--
-- An effect is its holder's, also when the partition has gone to another; one that nobody holds is the server's.

local owner, remove = ARGV[1], ARGV[2] == '1'
local serving = redis.call('HGET', KEYS[2], 'effect')
local replies = {}

for i = 4, #ARGV, 4 do
  local position, name = ARGV[i], ARGV[i + 1]
  local holder = string.match(redis.call('HGET', KEYS[3], name) or '0||', '^%d+|%d*|(.*)$')
  local ours = holder == owner or (holder == '' and (not serving or serving == owner))
  if ours and #redis.call('XRANGE', KEYS[1], position, position) > 0 then
    if remove then
      redis.call('XDEL', KEYS[1], position)
      redis.call('HDEL', KEYS[3], name)
      redis.call('HDEL', KEYS[4], name)
      if ARGV[i + 3] ~= '0' then
        redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[3], '*', 'm', ARGV[i + 2], 'a', ARGV[i + 3])
      end
    end
    replies[#replies + 1] = 1
  else
    replies[#replies + 1] = 0
  end
end
return replies
