-- Replace what is kept for an instance's payloads, if it is still what the caller has read.
--
-- KEYS[1]  secrets  hash  of the partition
-- ARGV[1]  scope    the instance
-- ARGV[2]  old      what the caller has read
-- ARGV[3]  new      what takes its place
--
-- Returns 1, or 0 where somebody was faster: then nothing was written.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
