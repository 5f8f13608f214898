-- Ends claims on tasks of one queue, each on its own.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix, own prefix, '' or ms: only claims whose lease ran out so long ago,
-- number of claims, how many attempts to keep; then for each claim: verdict, id, run, and
--   d done: lock
--   c complete: message before and after the instant, retention in s, lock, result or ''
--   r retry, n retry that does not count: message before and after the instant, delay in ms
--   a archive: message before and after the instant
--   h hand back
--   s snooze: delay in ms, what it waits for or ''
-- then for each attempt to remember: id, JSON, seconds to keep it.
-- Returns: 1 or 0 for each claim: whether it still was the caller's.
-- A task that goes on is nobody's: without a run a late settlement is refused even when the next one to take it is
-- a Go worker, which writes none. Of claims whose lease ran out it is counted how many there were in a row.
local queue, own = ARGV[3], ARGV[4]
local cutoff = ARGV[5] ~= '' and math.floor((millis - tonumber(ARGV[5])) / 1000)
local claims, keep = tonumber(ARGV[6]), tonumber(ARGV[7])
local width = {d = 1, c = 5, r = 3, n = 3, a = 2, h = 0, s = 2}
local accepted, reply, ids = {}, {}, {}

-- Whether the claim still is the caller's; then its id is no longer active. An id is accepted once: its second
-- settlement in one call comes too late like any other. The first write is a removal: a full server of an old
-- version lets the rest of the script pass then.
local function take(id, key, run)
  if accepted[id] or (redis.call('HGET', key, 'run') or '0') ~= run then return false end
  if cutoff then
    local score = redis.call('ZSCORE', queue .. 'lease', id)
    if score and tonumber(score) > cutoff then return false end
  end
  -- The list and the state agree but for damage, which ends with this.
  return redis.call('LREM', KEYS[1], -1, id) == 1 or redis.call('HGET', key, 'state') == 'active'
end

-- The present as protobuf writes it, behind the tag of its field.
local function field(tag)
  local number, text = now, string.char(tag)
  while number >= 128 do
    text = text .. string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  return text .. string.char(number)
end

local function unlock(lock, id)
  if lock ~= '' and redis.call('GET', lock) == id then redis.call('DEL', lock) end
end

local lists = {completed = {}, retry = {}, archived = {}, scheduled = {}}
local gone, back, notes = {}, {}, {}
local done, failed = 0, 0

local function file(list, score, id)
  local rows = lists[list]
  rows[#rows + 1] = whole(score)
  rows[#rows + 1] = id
end

local function message(at, tag)
  return ARGV[at] .. field(tag) .. ARGV[at + 1]
end

local apply = {}
function apply.d(id, key, at)
  gone[#gone + 1] = key
  gone[#gone + 1] = own .. 'att:' .. id
  unlock(ARGV[at], id)
  done = done + 1
end
function apply.c(id, key, at)
  file('completed', now + tonumber(ARGV[at + 2]), id)
  redis.call('HSET', key, 'msg', message(at, 104), 'state', 'completed')
  if ARGV[at + 4] ~= '' then redis.call('HSET', key, 'result', ARGV[at + 4]) end
  unlock(ARGV[at + 3], id)
  done = done + 1
end
function apply.n(id, key, at)
  file('retry', (millis + tonumber(ARGV[at + 2])) / 1000, id)
  redis.call('HSET', key, 'msg', message(at, 88), 'state', 'retry')
end
function apply.r(id, key, at)
  apply.n(id, key, at)
  done, failed = done + 1, failed + 1
end
function apply.a(id, key, at)
  file('archived', now, id)
  redis.call('HSET', key, 'msg', message(at, 88), 'state', 'archived')
  done, failed = done + 1, failed + 1
end
function apply.h(id, key)
  back[#back + 1] = id
  redis.call('HSET', key, 'state', 'pending')
end
function apply.s(id, key, at)
  file('scheduled', (millis + tonumber(ARGV[at])) / 1000, id)
  redis.call('HSET', key, 'state', 'scheduled')
  if ARGV[at + 1] ~= '' then
    notes[#notes + 1] = id
    notes[#notes + 1] = ARGV[at + 1]
  end
end

local function let_go(verdict, key)
  if cutoff and verdict == 'r' then
    redis.call('HINCRBY', key, 'lost', 1)
    redis.call('HDEL', key, 'run', 'by')
  else
    redis.call('HDEL', key, 'run', 'by', 'lost')
  end
end

local at = 8
for number = 1, claims do
  local verdict, id = ARGV[at], ARGV[at + 1]
  local key = queue .. 't:' .. id
  if take(id, key, ARGV[at + 2]) then
    accepted[id] = verdict
    ids[#ids + 1] = id
    apply[verdict](id, key, at + 3)
    if verdict ~= 'd' then let_go(verdict, key) end
    reply[number] = 1
  else
    reply[number] = 0
  end
  at = at + 3 + width[verdict]
end
if #ids == 0 then return reply end

spread('ZREM', queue .. 'lease', ids)
wipe(gone)
for list, pairs_of_it in pairs(lists) do
  spread('ZADD', queue .. list, pairs_of_it)
end
-- The right end is the front; the first of the batch was claimed first and comes first again.
for i = #back, 1, -1 do
  redis.call('RPUSH', queue .. 'pending', back[i])
end
spread('HSET', own .. 'waiting', notes)
for i = at, #ARGV, 3 do
  local verdict = accepted[ARGV[i]]
  if verdict and verdict ~= 'd' then
    local key = own .. 'att:' .. ARGV[i]
    redis.call('RPUSH', key, ARGV[i + 1])
    redis.call('LTRIM', key, -keep, -1)
    redis.call('EXPIRE', key, ARGV[i + 2])
  end
end
if #lists.archived > 0 then trim(queue, own, 1000) end
tally(queue, done, failed)
return reply
