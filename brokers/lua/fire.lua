-- Move the timers of a partition whose time has come, and return what waits to be sent.
--
-- KEYS[1]  schedule  zset    names by due time in milliseconds
-- KEYS[2]  timers    hash    by name, the bytes
-- KEYS[3]  due       stream  what is to be sent: n name, d due time, e envelope
-- KEYS[4]  effects   stream  where an effect whose wait is over goes back to
-- KEYS[5]  serving   hash    by pool, the member that serves the partition
-- KEYS[6]  names     zset    the names of the hash
-- ARGV[1]  limit     ARGV[2]  pool    ARGV[3]  owner, '' for one that is no member
--
-- Returns {moved, milliseconds until the next is due or -1, then for each that waits: id, due time, envelope},
-- or 'fenced' when somebody else serves the partition.
--
-- Redis's own clock says what is due, whatever the clocks of the workers say. Names that begin with `~e:` are effects
-- that wait for another try.

if ARGV[3] ~= '' then
  local holder = redis.call('HGET', KEYS[5], ARGV[2])
  if holder and holder ~= ARGV[3] then return 'fenced' end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
local names = {}
for i = 1, #found, 2 do names[#names + 1] = found[i] end

if #names > 0 then
  local bodies = redis.call('HMGET', KEYS[2], unpack(names))
  for i, name in ipairs(names) do
    local body = bodies[i]
    if body and string.sub(name, 1, 3) == '~e:' then
      redis.call('XADD', KEYS[4], '*', 'e', body)
    elseif body then
      redis.call('XADD', KEYS[3], '*', 'n', name, 'd', found[2 * i], 'e', body)
    end
  end
  redis.call('ZREM', KEYS[1], unpack(names))
  redis.call('HDEL', KEYS[2], unpack(names))
  redis.call('ZREM', KEYS[6], unpack(names))
end

local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local reply = {#names, first[2] and math.max(0, tonumber(first[2]) - now) or -1}
for _, entry in ipairs(redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', ARGV[1])) do
  local fields = entry[2]
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = fields[4]
  reply[#reply + 1] = fields[6]
end
return reply
