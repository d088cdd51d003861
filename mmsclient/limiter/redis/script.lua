-- One sync of one process with the state of one account: it reports on its calls, and may ask for the next few.
-- docs/limiter.md has the rule. All times are microseconds, `now` is this server's clock.

local STATE, BUSY, LINE, PLACES, KINDS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local EXCHANGES, MEMBERS = KEYS[6], KEYS[#KEYS]
local COOLING = {} -- for each class of calls: the kinds, and uploads smaller than those that a process knows of
for i = 7, #KEYS - 1 do
  COOLING[i - 6] = KEYS[i]
end
local sync = cjson.decode(ARGV[1])
local me, slots = sync.process, sync.slots
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local settled = now + sync.jitter + sync.window -- when a call that leaves at this moment surely counts no longer

local known = redis.call('HMGET', STATE, 'last', 'entries', 'episode', 'held', 'slow', 'bucket', 'pace', 'queueing',
  'least', 'least_before', 'least_till')
local last, entries = tonumber(known[1]), known[2]
local episode = tonumber(known[3]) or now -- from `now`, so that a grant of a forgotten episode matches none to come
local held = math.min(tonumber(known[4]) or 0, now + sync.longest_pause)
local slow = tonumber(known[5]) or 1
local bucket, pace = tonumber(known[6]) or 0, tonumber(known[7]) or 0
local queueing = known[8] == '1' -- somebody had to wait since the line was last empty

-- Slots are free for uploads as soon as `free` says only if these are of the `least` size that its process knew, or more.
-- So the largest that was reported counts for as long as slots are taken, and no longer than twice that.
local least, least_before, least_till = tonumber(known[9]) or 0, tonumber(known[10]) or 0, tonumber(known[11]) or 0
least_till = math.min(least_till, settled) -- the clock may have gone back
if now >= least_till then
  least_before = now < least_till + settled - now and least or 0
  least, least_till = 0, settled
end
least = math.max(least, sync.least)
local full_size = math.max(least, least_before) -- bytes: a slot that is free for an upload of it is free for larger ones

-- The index in COOLING of a call of that kind, and of that size if it is an upload.
local function class_of(kind, size)
  return size >= 0 and size < full_size and #COOLING or kind + 1
end

local kind = class_of(sync.next[1], sync.next[2]) -- of the process's first call in line

-- The slots: a call in flight is in BUSY with the time it was last heard of, one given back is in COOLING of each kind
-- with the time its slot is free for a call of that kind.

local function count()
  local counts = { redis.call('ZCARD', BUSY), redis.call('ZCARD', MEMBERS) }
  for _, cooling in ipairs(COOLING) do
    counts[#counts + 1] = redis.call('ZCARD', cooling)
  end
  return table.concat(counts, ' ')
end

-- Keeps slots free until then, for no call.
local function keep(name, many, till)
  for i = 1, many do
    for _, cooling in ipairs(COOLING) do
      redis.call('ZADD', cooling, till, name .. ':' .. i)
    end
  end
end

local function kept_till(name)
  return tonumber(redis.call('ZSCORE', COOLING[1], name .. ':1') or nil)
end

local function release(name, many)
  if not kept_till(name) then
    return
  end
  for i = 1, many do
    for _, cooling in ipairs(COOLING) do
      redis.call('ZREM', cooling, name .. ':' .. i)
    end
  end
end

local is_lost = not last or now < last or entries ~= count() or (sync.heard or 0) > last
if is_lost then
  redis.call('DEL', BUSY, LINE, PLACES, KINDS, EXCHANGES, MEMBERS, unpack(COOLING))
  bucket, pace = 0, 0
  keep('lost', slots, settled)
end

-- Processes that go by their part of the cap while they cannot reach Redis are in MEMBERS, with the time of the last
-- answer that they have surely got: what they say now may have been on the way for long. The part of one that has got
-- none for some time is kept free for it.

local is_missed = false

local function look_after_members()
  if sync.leaves then
    redis.call('ZREM', MEMBERS, me)
    release('kept:' .. me, sync.share)
    return
  end
  local missing = now - sync.missing
  local heard = math.min(sync.heard or missing, now)
  local is_new = redis.call('ZADD', MEMBERS, heard, me) == 1
  is_missed = heard <= missing
  if not is_missed then
    release('kept:' .. me, sync.share)
  end
  local excess = redis.call('ZCARD', MEMBERS) - sync.processes -- so many others took the place of one that is missed
  local missed = redis.call('ZRANGEBYSCORE', MEMBERS, '-inf', missing)
  for n, member in ipairs(missed) do
    local till = tonumber(redis.call('ZSCORE', MEMBERS, member)) + sync.kept_for
    if n <= excess or till <= now then
      redis.call('ZREM', MEMBERS, member)
      till = settled
    end
    if kept_till('kept:' .. member) ~= till then
      keep('kept:' .. member, sync.share, till)
    end
  end
  local unknown = sync.processes - redis.call('ZCARD', MEMBERS)
  if unknown <= 0 then
    release('rejoin', slots)
  elseif is_lost or now - last > sync.missing then -- Redis was away; whoever else there is comes back soon
    local all = tonumber(redis.call('ZSCORE', COOLING[1], 'rejoin:' .. slots) or nil)
    local was_waiting = is_lost or (all or 0) > last
    keep('rejoin', was_waiting and slots or unknown * sync.share, settled + sync.rejoin)
  end
  if is_new and (#missed > 1 or kept_till('rejoin')) then -- whose place it takes may have called until now
    keep('new:' .. me, sync.share, settled)
  end
end

if sync.processes then
  look_after_members()
end

for _, report in ipairs(sync.free) do
  redis.call('ZREM', BUSY, report[1])
  for i, cooling in ipairs(COOLING) do
    redis.call('ZADD', cooling, now - report[2][i] + sync.window, report[1])
  end
end
for _, id in ipairs(sync.busy) do
  redis.call('ZADD', BUSY, now, id)
end
for _, id in ipairs(sync.unused) do
  if redis.call('ZREM', BUSY, id) == 1 then
    bucket, pace = bucket - sync.gap, pace - sync.gap
  end
end
for _, cooling in ipairs(COOLING) do
  redis.call('ZREMRANGEBYSCORE', cooling, '-inf', now)
end
redis.call('ZREMRANGEBYSCORE', BUSY, '-inf', now - sync.lease)

-- Exchanges of all processes, with the time at which they were told: each learns from those of the others.

for _, exchange in ipairs(sync.exchanges) do
  redis.call('ZADD', EXCHANGES, 'NX', now, exchange)
end
redis.call('ZREMRANGEBYSCORE', EXCHANGES, '-inf', now - sync.fresh)
redis.call('ZREMRANGEBYSCORE', EXCHANGES, string.format('(%.0f', now), '+inf')
redis.call('ZREMRANGEBYRANK', EXCHANGES, 0, -sync.most_exchanges - 1)
local told = {}
for _, exchange in ipairs(redis.call('ZRANGEBYSCORE', EXCHANGES, string.format('(%.0f', sync.heard or 0), '+inf')) do
  local process, numbers = string.match(exchange, '^(%w+):%d+ (%d+ %d+ %d+)$')
  if numbers and #numbers < 50 and process ~= me then
    told[#told + 1] = numbers
  end
end

-- Feedback.

local function present_rate()
  return math.min(1, slow + math.max(0, now - held) * sync.recovery)
end

local slowed = 0
for _, report in ipairs(sync.over) do
  if report[1] == episode then
    slow = math.max(sync.slower * present_rate(), sync.slowest)
    episode, bucket, slowed = episode + 1, now, slowed + 1
  end
  held = math.max(held, now + report[2])
end

-- The line: processes in the order of asking, each with the kind of its first call and, for who watches, with how many
-- of its callers wait. A place is lost when its process is overdue.

local function callers_of(process) -- a member of KINDS, beside the process
  return process .. ':callers'
end

local function leave(process)
  redis.call('ZREM', LINE, process)
  redis.call('ZREM', PLACES, process)
  redis.call('ZREM', KINDS, process, callers_of(process))
end

for _, process in ipairs(redis.call('ZRANGEBYSCORE', PLACES, '-inf', now)) do
  leave(process)
end
queueing = queueing and redis.call('EXISTS', LINE) == 1

-- When there are so many slots free for a call of that kind.
local function free_slots(of_kind, many)
  local cooling, busy = redis.call('ZCARD', COOLING[of_kind]), redis.call('ZCARD', BUSY)
  local must_end = cooling + busy - slots + many
  if must_end > cooling then
    local nth = must_end - cooling - 1
    local heard = tonumber(redis.call('ZRANGE', BUSY, nth, nth, 'WITHSCORES')[2])
    local free = heard + sync.window
    if free <= now then -- silent for long: dead, it seems
      free = math.min(heard + sync.lease, now + sync.renew)
    end
    return free
  elseif must_end > 0 then
    return tonumber(redis.call('ZRANGE', COOLING[of_kind], must_end - 1, must_end - 1, 'WITHSCORES')[2])
  end
  return now
end

-- When there is room for a call and for one of each of the processes before it, or the earliest it can be.
local function ready(before)
  local gap, burst = sync.gap / present_rate(), slow < 1 and 1 or sync.burst
  local start = math.max(now, held)
  local at = math.max(start, math.max(bucket, start) + (before + 1 - burst) * gap)
  if queueing and slow == 1 then
    at = math.max(at, math.max(pace, start) + (before + 1 - sync.earned) * gap)
  end
  -- The call takes a slot of every kind, so there must be room by the kinds of those before it, too: else calls whose
  -- slots are free sooner would go on and on, and never leave one for the first in line.
  local kinds = { [kind] = true }
  for _, process in ipairs(before > 0 and redis.call('ZRANGE', LINE, 0, before - 1) or {}) do
    kinds[(tonumber(redis.call('ZSCORE', KINDS, process)) or kind - 1) + 1] = true
  end
  -- A slot serves those before one after the other, each for a window at least.
  local rounds = math.floor(before / slots)
  for each in pairs(kinds) do
    at = math.max(at, free_slots(each, 1 + before % slots) + rounds * sync.window)
  end
  return at
end

local granted = 0
for _, want in ipairs(sync.wants) do
  kind = class_of(want[2], want[3])
  local before = redis.call('ZRANK', LINE, me) or redis.call('ZCARD', LINE)
  if redis.call('ZSCORE', BUSY, want[1]) then -- asked again because the answer was lost
    granted = granted + 1
  elseif ready(before) <= now then
    granted = granted + 1
    redis.call('ZADD', BUSY, now, want[1])
    local rate = present_rate()
    if slow == 1 then
      bucket = math.max(bucket, now) + sync.gap
      if queueing then
        pace = math.max(pace, now) + sync.gap
      end
    elseif rate < 1 then
      bucket = now + sync.gap / rate
    else -- recovered, and nothing saved up yet
      slow, bucket, pace = 1, now + sync.burst * sync.gap, now + sync.earned * sync.gap
    end
    redis.call('ZREM', LINE, me)
  else
    break
  end
end

local wait, callers = 0, sync.callers - granted -- those that still wait
if callers > 0 then
  redis.call('ZADD', LINE, 'NX', now, me)
  redis.call('ZADD', KINDS, kind - 1, me, callers, callers_of(me))
  local at = ready(redis.call('ZRANK', LINE, me))
  queueing = queueing or at > now
  if sync.processes then
    at = is_missed and now or math.min(at, now + sync.beat)
  end
  redis.call('ZADD', PLACES, at + sync.grace, me)
  wait = math.ceil(at - now)
else
  leave(me)
end

redis.call('HSET', STATE, 'last', now, 'entries', count(), 'episode', episode, 'held', held)
redis.call('HSET', STATE, 'least', least, 'least_before', least_before, 'least_till', least_till)
redis.call('HSET', STATE, 'slow', slow, 'bucket', bucket, 'pace', pace, 'queueing', queueing and 1 or 0)
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, sync.kept)
end
local speed, pause = math.floor(present_rate() * 1000000), math.max(0, held - now)
-- In one string, which a client reads faster than many numbers.
return string.format('%d %.0f %.0f %d %d %.0f %.0f %.0f ', granted, wait, episode, speed, slowed, pause, now, full_size)
  .. table.concat(told, ' ')
