-- Count what waits in a partition, at one moment. Nothing is written.
--
-- KEYS[1]  effects   stream
-- KEYS[2]  schedule  zset
-- KEYS[3]  due       stream
-- KEYS[4]  feed      stream
-- KEYS[5]  readers   hash
-- ARGV[1]  how far the feed is counted
--
-- Returns {now, effects, since, scheduled, due, since, feed, {projection, behind, since} ...}; times are in
-- milliseconds, and 0 where nothing waits; behind is -1 for a projection that does not say where it is.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function ms_of(id) return tonumber(string.match(id, '^(%d+)')) end

local function oldest(stream)
  local found = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  return found and ms_of(found[1]) or 0
end

local due = redis.call('ZCOUNT', KEYS[2], '-inf', now)
local since = 0
if due > 0 then since = tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]) end
local moved = redis.call('XLEN', KEYS[3])
if moved > 0 then
  local first = oldest(KEYS[3])
  if since == 0 or first < since then since = first end
end

local reply = {
  now, redis.call('XLEN', KEYS[1]), oldest(KEYS[1]), redis.call('ZCARD', KEYS[2]), due + moved, since,
  redis.call('XLEN', KEYS[4]),
}
local readers = redis.call('HGETALL', KEYS[5])
for n = 1, #readers, 2 do
  local name, position = readers[n], readers[n + 1]
  if string.match(position, '^%d+%-%d+$') then
    local unread = redis.call('XRANGE', KEYS[4], '(' .. position, '+', 'COUNT', ARGV[1])
    reply[#reply + 1] = {name, #unread, unread[1] and ms_of(unread[1][1]) or 0}
  else
    reply[#reply + 1] = {name, -1, 0}
  end
end
return reply
