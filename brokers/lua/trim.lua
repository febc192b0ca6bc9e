-- Delete the entries of a log that a snapshot has and nobody needs any more.
--
-- KEYS[1]  log  stream    KEYS[2]  snap  hash    KEYS[3]  readers  hash   the projections that read the feed
-- ARGV[1]  up to which sequence number    ARGV[2]  the most entries to delete
--
-- Returns how many were deleted. While there are projections nothing is: one of them may still need the log.

if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local snapshot = tonumber(redis.call('HGET', KEYS[2], 'seq') or '0')
local upto = math.min(tonumber(ARGV[1]), snapshot)
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not first then return 0 end
local start = tonumber(string.match(first[1], '^(%d+)'))
upto = math.min(upto, start + tonumber(ARGV[2]) - 1)
if upto < start then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', string.format('%.0f-0', upto + 1))
