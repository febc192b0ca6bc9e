-- Forget the entries of a feed that every reader is done with.
--
-- KEYS[1]  readers  hash   by reader, the last entry that it is done with
-- KEYS[2]  feed     stream
-- ARGV[1]  about how many entries to forget at most, so that no call is long
--
-- Returns how many were forgotten. Whole nodes of the stream go, so some entries that nobody needs stay a while.

local low, low_ms, low_number
for _, position in ipairs(redis.call('HVALS', KEYS[1])) do
  local ms, number = string.match(position, '^(%d+)-?(%d*)$')
  ms, number = tonumber(ms), tonumber(number) or 0
  if not low or ms < low_ms or (ms == low_ms and number < low_number) then
    low, low_ms, low_number = position, ms, number
  end
end
if not low then return 0 end
return redis.call('XTRIM', KEYS[2], 'MINID', '~', low, 'LIMIT', ARGV[1])
