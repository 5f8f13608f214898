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
local queue, own = ARGV[3], ARGV[4]
local cutoff = ARGV[5] ~= '' and math.floor((millis - tonumber(ARGV[5])) / 1000)
local claims, keep = tonumber(ARGV[6]), tonumber(ARGV[7])
local width = {d = 1, c = 5, r = 3, n = 3, a = 2, h = 0, s = 2}
local accepted, reply = {}, {}

-- An id is accepted once: its second settlement in one call comes too late like any other.
local function is_ours(id, run)
  local held = redis.call('HMGET', queue .. 't:' .. id, 'state', 'run')
  if accepted[id] or held[1] ~= 'active' or (held[2] or '0') ~= run then return false end
  if cutoff then
    local score = redis.call('ZSCORE', queue .. 'lease', id)
    if score and tonumber(score) > cutoff then return false end
  end
  return true
end

local ours, ids = {}, {}
local at = 8
for number = 1, claims do
  local verdict, id, run = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  reply[number] = 0
  if is_ours(id, run) then
    reply[number] = 1
    accepted[id] = verdict
    ours[#ours + 1] = {verdict = verdict, id = id, key = queue .. 't:' .. id, at = at + 3}
    ids[#ids + 1] = id
  end
  at = at + 3 + width[verdict]
end
if #ids == 0 then return reply end

-- First a removal: a full server of an old version lets the rest of the script pass then.
for _, id in ipairs(ids) do
  redis.call('LREM', KEYS[1], -1, id)
end
spread('ZREM', queue .. 'lease', ids)

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

local function file(list, score, item)
  lists[list][#lists[list] + 1] = whole(score)
  lists[list][#lists[list] + 1] = item.id
end

local function message(item, tag)
  return ARGV[item.at] .. field(tag) .. ARGV[item.at + 1]
end

local apply = {}
function apply.d(item)
  gone[#gone + 1] = item.key
  gone[#gone + 1] = own .. 'att:' .. item.id
  unlock(ARGV[item.at], item.id)
  done = done + 1
end
function apply.c(item)
  file('completed', now + tonumber(ARGV[item.at + 2]), item)
  redis.call('HSET', item.key, 'msg', message(item, 104), 'state', 'completed')
  if ARGV[item.at + 4] ~= '' then redis.call('HSET', item.key, 'result', ARGV[item.at + 4]) end
  unlock(ARGV[item.at + 3], item.id)
  done = done + 1
end
function apply.n(item)
  file('retry', (millis + tonumber(ARGV[item.at + 2])) / 1000, item)
  redis.call('HSET', item.key, 'msg', message(item, 88), 'state', 'retry')
end
function apply.r(item)
  apply.n(item)
  done, failed = done + 1, failed + 1
end
function apply.a(item)
  file('archived', now, item)
  redis.call('HSET', item.key, 'msg', message(item, 88), 'state', 'archived')
  done, failed = done + 1, failed + 1
end
function apply.h(item)
  back[#back + 1] = item.id
  redis.call('HSET', item.key, 'state', 'pending')
end
function apply.s(item)
  file('scheduled', (millis + tonumber(ARGV[item.at])) / 1000, item)
  redis.call('HSET', item.key, 'state', 'scheduled')
  if ARGV[item.at + 1] ~= '' then
    notes[#notes + 1] = item.id
    notes[#notes + 1] = ARGV[item.at + 1]
  end
end

for _, item in ipairs(ours) do
  apply[item.verdict](item)
end
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
