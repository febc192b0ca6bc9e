-- Commit the decisions of instances of one partition: each all or nothing, and none hindering the others.
--
-- KEYS[1]  feed      stream  \
-- KEYS[2]  effects   stream   |
-- KEYS[3]  schedule  zset      } of the partition
-- KEYS[4]  timers    hash     |
-- KEYS[5]  readers   hash     |
-- KEYS[6]  names     zset     |
-- KEYS[7]  serving   hash     |
-- KEYS[8]  begun     hash     |
-- KEYS[9]  refused   hash     |
-- KEYS[10] refused-at  zset  /
-- KEYS[11 + 4i .. 14 + 4i]  actor hash, log stream, directory zset of the run state before and after, of commit i
-- KEYS[.. end]  for each commit with `more`, from KEYS[more.keys] on: parked zset and bodies hash, snap hash of the
--          instance; dead zset and dead-letters hash of the partition; observations stream of the instance; with
--          `secret` the secrets hash of the partition
-- ARGV[1]  msgpack of the struct `CommitCall` in scripts.py: owner, lease_ms, leases, refusals_ms, commits;
--          each commit: workflow, key, seq, head, token, entries, new_head, was, run_state, effects, cancels, timers
--          and, where there is any of that, begins: for each effect its name if it is to begin, else ''; refusals:
--          pairs of the name of a command and where its answer is; unless: names of commands that may have been
--          refused by another; and more: parks, parks_max, unparks, reason, unique, until, wipe, dead, scope, secret
-- ARGV[2 ..]  the bytes of entries, effects, timers and answers; the commits say which is whose
--
-- Returns for each commit one of
--   {'committed', token, feed id, parked, ids, positions}   everything was written (with nothing to write: the view still holds); the
--                                   feed id is that of the last record, empty while nobody reads the feed; parked is
--                                   how many commands are kept now, -1 where the commit did not touch them; ids are
--                                   those that there was no room to keep; positions are where the effects are whose
--                                   holder the owner has become: with their first attempt counted, as begin.lua does
--   {'fenced', token}      the lease is another's; nothing was written
--   {'conflict', seq}      the log is not where the caller thought, its claim on a unique key has run out, or another
--                          has refused one of its commands, and its sender may know; nothing was written
--   {'ahead', seq}         the log has entries beyond its instance, which is where the caller thought; nothing was
--                          written, and trying again helps nobody
--
-- A timer that becomes the next one of its partition, and is due before the timer pool would look again by itself, is
-- told on the channel of the schedule's name; a word that gets lost costs that pool a moment.
--
-- Everything about a commit is checked before the first write of it. Explicit stream ids alone would not do: they
-- refuse an old id but accept a gap.

-- Append the first entry. The log refuses its id only when it is ahead of the actor hash, which no script of ours
-- leaves behind (a partial restore might). Any other error is the server's: full, read-only. It is raised.
local function refused(log, seq, entry)
  local added = redis.pcall('XADD', log, seq .. '-0', 'r', entry)
  if type(added) ~= 'table' or not added.err then return false end
  if string.find(added.err, 'equal or smaller', 1, true) then return true end
  redis.call('XADD', log, seq .. '-0', 'r', entry)
end

-- Keep commands for a paused instance, behind or before those that are kept, and let others go. One that is kept
-- already stays where it is. Returns how many there are now, and the ids of those that found no room.
local function park(actor, more)
  local order, bodies = KEYS[more.keys], KEYS[more.keys + 1]
  for _, id in ipairs(more.unparks or {}) do
    redis.call('ZREM', order, id)
    redis.call('HDEL', bodies, id)
  end
  local kept, crowded_out = redis.call('ZCARD', order), {}
  for _, one in ipairs(more.parks or {}) do
    if redis.call('HEXISTS', bodies, one.id) == 0 and kept >= more.parks_max then
      crowded_out[#crowded_out + 1] = one.id
    elseif redis.call('HSETNX', bodies, one.id, ARGV[one.data]) == 1 then
      kept = kept + 1
      local step, edge = 1, redis.call('ZREVRANGE', order, 0, 0, 'WITHSCORES')
      if one.first then step, edge = -1, redis.call('ZRANGE', order, 0, 0, 'WITHSCORES') end
      redis.call('ZADD', order, (tonumber(edge[2]) or 0) + step, one.id)
    end
  end
  redis.call('HSET', actor, 'parked', kept)
  return kept, crowded_out
end

-- Delete what an instance has recorded, all but the last entry, and have that entry's snapshot in its place.
local function wipe(actor, log, last, entry, more)
  redis.call('UNLINK', log, KEYS[more.keys], KEYS[more.keys + 1], KEYS[more.keys + 2], KEYS[more.keys + 5])
  redis.call('XADD', log, last .. '-0', 'r', entry)
  redis.call('HSET', KEYS[more.keys + 2], 'seq', last, 'data', ARGV[more.wipe])
  redis.call('HDEL', actor, 'parked')
  if more.secret then redis.call('HSET', KEYS[more.keys + 6], more.scope, ARGV[more.secret]) end
end

-- Whether another has refused a command that is about to be decided. What it was told is remembered by the very commit
-- that found the view to hold, so it is known here, whoever slept for however long in between.
local function told(names)
  for _, name in ipairs(names or {}) do
    if redis.call('HEXISTS', KEYS[9], name) == 1 then return true end
  end
end

local call = cmsgpack.unpack(ARGV[1])
local owner = call.owner
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local feeding = redis.call('EXISTS', KEYS[5]) == 1
local serving
local replies, refusing = {}, false

-- Remember what callers are about to be told.
local function remember(refusals)
  refusing = true
  for _, one in ipairs(refusals) do
    redis.call('HSET', KEYS[9], one[1], ARGV[one[2]])
    redis.call('ZADD', KEYS[10], now, one[1])
  end
end

for i, commit in ipairs(call.commits) do
  local k = 11 + 4 * (i - 1)
  local actor, log, directory_before, directory_after = KEYS[k], KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  local seq, head, token, holder = unpack(redis.call('HMGET', actor, 'seq', 'head', 'token', 'owner'))
  local exists = seq
  seq, head, token = tonumber(seq) or 0, head or '', tonumber(token) or 0
  local claims = call.leases and commit.token >= 0
  local more, parked, crowded_out = commit.more, -1, {}

  if claims and commit.token > 0 and (holder ~= owner or token ~= commit.token) then
    replies[i] = {'fenced', token}
  elseif seq ~= commit.seq or head ~= commit.head then
    replies[i] = {'conflict', seq}
  elseif claims and commit.token == 0 and exists then
    replies[i] = {'fenced', token}
  elseif told(commit.unless) or more and more['until'] and now >= more['until'] then
    replies[i] = {'conflict', seq}
  elseif #commit.entries == 0 and not more and not exists and redis.call('EXISTS', log) == 1 then
    replies[i] = {'ahead', seq} -- what is refused here would be refused for want of what the log has
  elseif #commit.entries == 0 and not more then
    if commit.refusals then remember(commit.refusals) end
    replies[i] = {'committed', commit.token, '', parked}
  elseif #commit.entries > 0 and refused(log, seq + 1, ARGV[commit.entries[1]]) then
    replies[i] = {'ahead', seq}
  else
    if commit.refusals then remember(commit.refusals) end
    if more and (more.parks or more.unparks or more.reason) then parked, crowded_out = park(actor, more) end
    for _, letter in ipairs(more and more.dead or {}) do
      redis.call('HSET', KEYS[more.keys + 4], letter.id, ARGV[letter.data])
      redis.call('ZADD', KEYS[more.keys + 3], letter.at_ms, letter.id)
    end
    for n = 2, #commit.entries do
      redis.call('XADD', log, (seq + n) .. '-0', 'r', ARGV[commit.entries[n]])
    end
    local feed_id = ''
    if feeding then
      for n, entry in ipairs(commit.entries) do
        feed_id = redis.call('XADD', KEYS[1], '*', 'w', commit.workflow, 'k', commit.key, 's', seq + n, 'r', ARGV[entry])
      end
    end
    local last = seq + #commit.entries
    if last > seq then
      if claims then
        if token == 0 then token = 1 end
        redis.call('HSET', actor, 'seq', last, 'head', commit.new_head, 'run_state', commit.run_state, 'updated', now,
          'token', token, 'owner', owner, 'lease_until', now + call.lease_ms)
      else
        redis.call('HSET', actor, 'seq', last, 'head', commit.new_head, 'run_state', commit.run_state, 'updated', now)
        token = commit.token
      end
      if not exists then redis.call('HSET', actor, 'created', now) end
      if directory_before ~= directory_after then redis.call('ZREM', directory_before, commit.key) end
      redis.call('ZADD', directory_after, now, commit.key)
      if more and more.reason then redis.call('HSET', actor, 'reason', more.reason) end
      if more and more.unique then redis.call('HSET', actor, 'unique', more.unique) end
      if more and more.wipe then wipe(actor, log, last, ARGV[commit.entries[#commit.entries]], more) end
    else
      token = commit.token
    end
    local begins, positions = commit.begins, {}
    if begins and serving == nil then serving = redis.call('HGET', KEYS[7], 'effect') end
    for n, effect in ipairs(commit.effects) do
      local position = redis.call('XADD', KEYS[2], '*', 'e', ARGV[effect])
      if begins and begins[n] ~= '' and serving == owner then
        redis.call('HSET', KEYS[8], begins[n], '1|' .. string.format('%.0f', now) .. '|' .. owner)
        positions[#positions + 1] = position
      end
    end
    for _, name in ipairs(commit.cancels) do
      redis.call('ZREM', KEYS[3], name)
      redis.call('HDEL', KEYS[4], name)
      redis.call('ZREM', KEYS[6], name)
    end
    for _, timer in ipairs(commit.timers) do
      local due = timer.due_ms
      if due == 0 then due = now + timer.delay_ms end
      if due - now < 1000 then
        local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
        if not first or due < tonumber(first) then redis.pcall('PUBLISH', KEYS[3], timer.name) end
      end
      redis.call('ZADD', KEYS[3], due, timer.name)
      redis.call('HSET', KEYS[4], timer.name, ARGV[timer.data])
      redis.call('ZADD', KEYS[6], 0, timer.name)
    end
    replies[i] = {'committed', token, feed_id, parked, crowded_out, positions}
  end
end

-- Forget refusals that are old enough, as refuse.lua does.
if refusing then
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[10], '-inf', now - call.refusals_ms, 'LIMIT', 0, 100)) do
    redis.call('HDEL', KEYS[9], name)
    redis.call('ZREM', KEYS[10], name)
  end
end
return replies
