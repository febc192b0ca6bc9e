-- Claim unique keys of one partition for instances that are about to commit them.
--
-- KEYS[i]  unique  hash  holder (the instance's key), seq (of the record that has it), until (0 once confirmed)
-- ARGV[1]  claim_ms
-- ARGV[3i - 1 .. 3i + 1]  for key i: holder, seq, and what the caller found at the last try and knows to be stale, as
--                         `<holder>|<seq>|<until>`, or ''
--
-- Returns for each key
--   {'claimed', until}
--   {'held', holder, seq, until, '1' if the claim has run out or was confirmed, else '0'}: the caller must look at the
--   holder itself, and come again with that if the holder does not have the key

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replies = {}
for i, key in ipairs(KEYS) do
  local wanted, seq, stale = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  local holder, held_seq, held_until = unpack(redis.call('HMGET', key, 'holder', 'seq', 'until'))
  if holder and holder ~= wanted and (holder .. '|' .. held_seq .. '|' .. held_until) ~= stale then
    local settled = tonumber(held_until) <= now
    replies[i] = {'held', holder, held_seq, held_until, settled and '1' or '0'}
  else
    local ends = string.format('%.0f', now + tonumber(ARGV[1]))
    redis.call('HSET', key, 'holder', wanted, 'seq', seq, 'until', ends)
    replies[i] = {'claimed', ends}
  end
end
return replies
