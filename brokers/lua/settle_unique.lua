-- Confirm or free unique keys of one partition.
--
-- KEYS[i]  unique  hash  holder, seq, until
-- ARGV[1]  'confirm' or 'free'
-- ARGV[2i .. 2i + 1]  for key i: holder, seq
--
-- Returns how many were changed. A confirmation is for exactly the claim that was made. A key is freed only if it was
-- claimed for an earlier record than the one that gave it up: a late word must not undo what was done since.

local count = 0
for i, key in ipairs(KEYS) do
  local holder, seq = unpack(redis.call('HMGET', key, 'holder', 'seq'))
  if holder == ARGV[2 * i] then
    if ARGV[1] == 'confirm' and seq == ARGV[2 * i + 1] then
      redis.call('HSET', key, 'until', '0')
      count = count + 1
    elseif ARGV[1] == 'free' and tonumber(seq) < tonumber(ARGV[2 * i + 1]) then
      redis.call('DEL', key)
      count = count + 1
    end
  end
end
return count
