-- Read new commands of a partition, unless somebody else serves it.
--
-- KEYS[1]  commands  stream
-- KEYS[2]  serving   hash    by pool, the member that serves the partition
-- ARGV[1]  group     ARGV[2]  pool    ARGV[3]  reader, '' for one that is no member    ARGV[4]  the most to read
--
-- Returns the entries, or 'fenced', or 'nogroup'.
--
-- A member that was silent for so long that another took over what it had pending may come back at any moment. What it
-- read then would be in no one else's hands, and could overtake what is in theirs.

if ARGV[3] ~= '' then
  local holder = redis.call('HGET', KEYS[2], ARGV[2])
  if holder and holder ~= ARGV[3] then return 'fenced' end
end
local found = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[1], 'COUNT', ARGV[4], 'STREAMS', KEYS[1], '>')
if not found then return {} end
if found.err then
  if string.sub(found.err, 1, 7) == 'NOGROUP' then return 'nogroup' end
  return found
end
return found[1][2]
