-- Begin to read the feed of a partition at its end; a reader that is known goes on where it was.
--
-- KEYS[1]  readers  hash   by reader, the last entry that it is done with
-- KEYS[2]  reading  hash   by <reader>/count, /walk and /walked, what else it is done with
-- KEYS[3]  feed     stream
-- KEYS[4]  serving  hash   by pool, the member that serves the partition
-- ARGV[1]  owner    ARGV[2]  reader
--
-- Returns {position, walk or false, walked}, or 'fenced'.
--
-- From the moment that `readers` exists commit.lua writes the feed. What was committed before is in the logs, which the
-- reader walks first.

local holder = redis.call('HGET', KEYS[4], 'projection')
if holder and holder ~= ARGV[1] then return 'fenced' end
local reader = ARGV[2]
local position = redis.call('HGET', KEYS[1], reader)
if not position then
  local count = 0
  position = '0-0'
  if redis.call('EXISTS', KEYS[3]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[3])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then position = info[i + 1] end
      if info[i] == 'entries-added' then count = info[i + 1] end
    end
  end
  redis.call('HSET', KEYS[1], reader, position)
  redis.call('HSET', KEYS[2], reader .. '/count', count, reader .. '/walk', '', reader .. '/walked', 0)
end
local found = redis.call('HMGET', KEYS[2], reader .. '/walk', reader .. '/walked')
return {position, found[1], found[2] or 0}
