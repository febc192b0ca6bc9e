-- Put an effect that was given up on back into the outbox, and forget its dead letter.
--
-- KEYS[1]  dead     zset    KEYS[2]  dead-letters   hash
-- KEYS[3]  effects  stream  KEYS[4]  effects-begun  hash   by effect name, the attempts that were begun
-- ARGV[1]  id of the dead letter    ARGV[2]  the effect    ARGV[3]  its name
--
-- Returns 1, or 0 when there is no such letter: then nothing is put back.

if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[3])
redis.call('XADD', KEYS[3], '*', 'e', ARGV[2])
return 1
