-- Say that a member lives, forget those that have not said so for too long, and return the living.
--
-- What was fixed when the namespace was first used is written again where a server has nothing of it any more.
--
-- KEYS[1]  members       zset   ids by when they stop being believed
-- KEYS[2]  member-facts  hash   ids to facts
-- KEYS[3]  meta          hash   what was fixed when the namespace was first used
-- KEYS[4]  knows         string the workflows that the member knows
-- ARGV[1]  member, or '' only to look    ARGV[2]  ttl_ms    ARGV[3]  facts    ARGV[4]  partitions    ARGV[5]  incarnation
-- ARGV[6]  the workflows
--
-- Returns the facts of the living.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
  if redis.call('PEXPIRE', KEYS[4], ARGV[2]) == 0 then redis.call('SET', KEYS[4], ARGV[6], 'PX', ARGV[2]) end
  if redis.call('HSETNX', KEYS[3], 'partitions', ARGV[4]) == 1 then
    redis.call('HSETNX', KEYS[3], 'incarnation', ARGV[5])
  end
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    redis.call('ZREM', KEYS[1], gone)
    redis.call('HDEL', KEYS[2], gone)
  end
end
local living = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')
if #living == 0 then return {} end
return redis.call('HMGET', KEYS[2], unpack(living))
