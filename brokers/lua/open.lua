-- Open instances of one partition: take or confirm the lease of each, and return what it takes to fold its state.
--
-- KEYS[1]                   serving   hash   who serves the partition, by pool
-- KEYS[2 + 3i .. 4 + 3i]    actor     hash   \
--                           snap      hash    } of instance i
--                           log       stream /
-- ARGV[1]  owner      who opens
-- ARGV[2]  lease_ms   how long the lease will last
-- ARGV[3]  tail_max   the most log entries to return for one instance; the caller reads on from there
-- ARGV[4]  take       '1' take leases, '0' only look
-- ARGV[5]  snapshots  '1' start at the snapshot, '0' at the first entry
--
-- Returns for each instance one of
--   {'absent'}
--   {'held', owner, remaining_ms}
--   {'opened', seq, head, token, run_state, parked, reason, unique, snapshot or '', seq of the first tail entry, tail entry, ...}
--
-- The entries of a tail have the numbers that follow its first one. Where records between them are gone, or an entry is
-- none of ours, 'irregular' stands in place of that first number and no entry is returned: the caller reads them one by
-- one, with their ids.
--
-- A lease is free to take when nobody holds it, it has expired, or its holder no longer serves the partition and the
-- caller does. Taking it raises the token, which fences the former holder. Nothing is written for an absent instance.

local owner, lease_ms, tail_max = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local take, snapshots = ARGV[4] == '1', ARGV[5] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local serving = nil
local replies = {}

-- Whether these are records without a gap. Ids only grow, so the last one tells of all.
local function regular(entries)
  local count = #entries
  if count == 0 then return true end
  for i = 1, count do
    if entries[i][2][1] ~= 'r' then return false end
  end
  local first = tonumber(string.match(entries[1][1], '^(%d+)-0$'))
  return first and entries[count][1] == string.format('%.0f-0', first + count - 1)
end

for k = 2, #KEYS, 3 do
  local actor, snap, log = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  local seq, head, token, holder, lease_until, run_state, parked, reason, unique = unpack(redis.call('HMGET', actor,
    'seq', 'head', 'token', 'owner', 'lease_until', 'run_state', 'parked', 'reason', 'unique'))
  local reply
  if not seq then
    reply = {'absent'}
  else
    token = tonumber(token) or 0
    lease_until = tonumber(lease_until) or 0
    if take and holder ~= owner then
      if holder and holder ~= '' and lease_until > now then
        if serving == nil then serving = redis.call('HGET', KEYS[1], 'command') end
        if serving ~= owner then reply = {'held', holder, lease_until - now} end
      end
      if not reply then token = token + 1 end
    end
    if not reply then
      if take then
        redis.call('HSET', actor, 'owner', owner, 'token', token, 'lease_until', now + lease_ms)
      end
      local snapshot_seq, snapshot = '0', ''
      if snapshots then
        local found = redis.call('HMGET', snap, 'seq', 'data')
        if found[1] then snapshot_seq, snapshot = found[1], found[2] end
      end
      local entries = redis.call('XRANGE', log, string.format('(%s-0', snapshot_seq), '+', 'COUNT', tail_max)
      local first = entries[1] and entries[1][1] or ''
      if not regular(entries) then first, entries = 'irregular', {} end
      reply = {'opened', seq, head, token, run_state, parked or 0, reason or '', unique or '', snapshot, first}
      for i, entry in ipairs(entries) do reply[10 + i] = entry[2][2] end
    end
  end
  replies[#replies + 1] = reply
end
return replies
