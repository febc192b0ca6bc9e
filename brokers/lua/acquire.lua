-- Hand out a place of a limit and a turn of a rate, both or neither.
--
-- KEYS[1]  slots   zset  who holds a place of the limit, by when the lease ends
-- KEYS[2]  starts  zset  when effects under the rate began, or may begin: their turns
-- ARGV[1]  who    ARGV[2]  lease_ms
-- ARGV[3]  how many the limit lets run at once, 0 for no limit
-- ARGV[4]  how many the rate lets begin    ARGV[5]  in how many milliseconds, 0 for no rate
--
-- Returns 0 when it may begin, -1 when the limit is full, else after how many milliseconds its turn comes.
--
-- A turn that lies ahead is kept under the name of who waits for it: nobody asks in vain twice, unless others were late
-- to their turns, for no window of the rate's length ever has more starts than it allows. Turns are forgotten when they
-- are too old to count.

local who, lease_ms = ARGV[1], tonumber(ARGV[2])
local limit, starts, per_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if limit > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  if not redis.call('ZSCORE', KEYS[1], who) and redis.call('ZCARD', KEYS[1]) >= limit then return -1 end
end

if per_ms > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - per_ms)
  local turn = tonumber(redis.call('ZSCORE', KEYS[2], who) or nil)
  redis.call('ZREM', KEYS[2], who)
  if not turn then
    turn = now
    local before = redis.call('ZRANGE', KEYS[2], -starts, -starts, 'WITHSCORES')
    if before[2] then turn = math.max(now, tonumber(before[2]) + per_ms) end
  end
  if turn <= now then
    -- It has come; but others may have been late to theirs.
    local come = redis.call('ZCOUNT', KEYS[2], '-inf', now)
    if come >= starts then
      local before = redis.call('ZRANGE', KEYS[2], come - starts, come - starts, 'WITHSCORES')
      turn = tonumber(before[2]) + per_ms
    end
  end
  if turn > now then
    redis.call('ZADD', KEYS[2], turn, who)
  else
    -- Taken: it counts from now on, under a name of its own, for the next attempt needs another turn.
    redis.call('ZADD', KEYS[2], now, '!' .. time[1] .. '.' .. time[2] .. '!' .. who)
  end
  local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
  redis.call('PEXPIRE', KEYS[2], math.max(0, tonumber(last[2]) - now) + per_ms + 1000)
  if turn > now then return turn - now end
end

if limit > 0 then
  redis.call('ZADD', KEYS[1], now + lease_ms, who)
  if redis.call('PTTL', KEYS[1]) < lease_ms then redis.call('PEXPIRE', KEYS[1], lease_ms + 1000) end
end
return 0
