-- Ends claims on tasks of one queue, each independently of the others.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix, own prefix, '' or ms: only claims whose lease ran out this long ago,
-- the letters of the verdicts, one for each claim; then for each claim: id, run, end of its lease in s, and
--   d done, which holds no lock
--   u done: lock
--   c complete: message before and after the instant, retention in s, lock, result or ''
--   r retry, n retry that does not count: message before and after the instant, delay in ms, result so far or ''
--   a archive: message before and after the instant, result so far or ''
--   h hand back
--   s snooze: delay in ms, what it waits for or ''
-- then pairs of a key and a text to remember: the number of a claim (from 1) and a line about its attempt; `f` and the
-- number, and function and record of a run; `s` and the number, and schedule and end of its task. In the latter two a line
-- break separates both parts. `p` and the number, and a task that follows: it is enqueued; `w` and the number, and a task that
-- follows in another slot: it is written down here. Such a task is a text: see follow.lua.
-- Returns: one list, the numbers (from 1) of those claims that the caller no longer held.
-- Of claims whose lease ran out, r has two more: crashes counted from now on, ms that the run took at most.
local queue, own = ARGV[3], ARGV[4]
local cutoff = ARGV[5] ~= '' and math.floor((millis - tonumber(ARGV[5])) / 1000)
local letters = ARGV[6]
local width = {d = 0, u = 1, c = 5, r = 4, n = 4, a = 3, h = 0, s = 2}
if cutoff then width.r = 6 end

-- The time as a protobuf varint, after the tag of its field.
local function field(tag)
  local number, text = now, string.char(tag)
  while number >= 128 do
    text = text .. string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  return text .. string.char(number)
end

-- Messages are untrusted: one must not name a key of another queue or kind.
local function unlock(lock, id)
  if string.sub(lock, 1, #queue + 7) == queue .. 'unique:' and try('GET', lock) == id then
    redis.call('DEL', lock)
  end
end

local lists = {completed = {}, retry = {}, archived = {}, scheduled = {}}
local gone, back, notes = {}, {}, {}
local done, failed = 0, 0

local function file(list, score, id)
  local rows = lists[list]
  rows[#rows + 1] = whole(score)
  rows[#rows + 1] = id
end

-- The end of a promised wait, rounded up: scores are whole seconds, and no wait is cut short.
local function after(delay)
  return math.ceil((millis + tonumber(delay)) / 1000)
end

local function message(at, tag)
  return ARGV[at] .. field(tag) .. ARGV[at + 1]
end

-- Returns whether the fields were written: if something else took the place of the task, there is nothing left to move.
local function write(key, ...)
  return of_task('HSET', key, ...) ~= nil
end

-- Stores the result so far; called once the task was written.
local function keep_result(key, result)
  if result ~= '' then redis.call('HSET', key, 'result', result) end
end

-- Each returns whether the task still exists.
local apply = {}
function apply.d(_, key)
  gone[#gone + 1] = key
  done = done + 1
end
function apply.u(id, key, at)
  apply.d(id, key)
  unlock(ARGV[at], id)
end
function apply.c(id, key, at)
  unlock(ARGV[at + 3], id)
  done = done + 1
  if not write(key, 'msg', message(at, 104), 'state', 'completed') then return false end
  keep_result(key, ARGV[at + 4])
  file('completed', now + tonumber(ARGV[at + 2]), id)
  return true
end
function apply.n(id, key, at)
  if not write(key, 'msg', message(at, 88), 'state', 'retry') then return false end
  file('retry', after(ARGV[at + 2]), id)
  keep_result(key, ARGV[at + 3])
  return true
end
function apply.r(id, key, at)
  done, failed = done + 1, failed + 1
  return apply.n(id, key, at)
end
function apply.a(id, key, at)
  done, failed = done + 1, failed + 1
  if not write(key, 'msg', message(at, 88), 'state', 'archived') then return false end
  keep_result(key, ARGV[at + 2])
  file('archived', now, id)
  return true
end
function apply.h(id, key)
  if not write(key, 'state', 'pending') then return false end
  back[#back + 1] = id
  return true
end
function apply.s(id, key, at)
  if not write(key, 'state', 'scheduled') then return false end
  file('scheduled', after(ARGV[at]), id)
  if ARGV[at + 1] ~= '' then
    notes[#notes + 1] = id
    notes[#notes + 1] = ARGV[at + 1]
  end
  return true
end

local ids, runs, untils, verdicts, places, at = {}, {}, {}, {}, {}, 7
for number = 1, #letters do
  local verdict = string.sub(letters, number, number)
  ids[number], runs[number], untils[number] = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  verdicts[number], places[number] = verdict, at + 3
  at = at + 3 + width[verdict]
end

-- A task that was not run stays a suspect; any other reported end clears it.
local clear = {}
local function let_go(verdict, key, id, number, at)
  if cutoff and verdict == 'r' then
    suspect(own, key, id, runs[number], ARGV[at + 4], ARGV[at + 5])
    redis.call('HDEL', key, 'run', 'alone')
  elseif verdict == 'h' or (verdict == 's' and ARGV[at + 1] ~= '') then
    redis.call('HDEL', key, 'run', 'alone')
  elseif redis.call('HDEL', key, 'run', 'alone', 'lost', 'ran', 'crash') > 1 then
    clear[#clear + 1] = id
  end
end

for i = at, #ARGV, 2 do
  if string.find(ARGV[i], '^[pw]') then reach(queue, own, ARGV[i + 1]) end
end
local ended, numbers, stale = accept(queue, own, KEYS[1], ids, runs, untils, cutoff)
local keepers, held, followed = {}, {}, {}
for _, id in ipairs(ended) do
  local number, key = numbers[id], queue .. 't:' .. id
  local verdict = verdicts[number]
  held[number] = id
  if apply[verdict](id, key, places[number]) then
    let_go(verdict, key, id, number, places[number])
    keepers[number] = key
  else
    clear[#clear + 1] = id
  end
end
wipe(gone)
cleared(own, clear)
for list, pairs_of_it in pairs(lists) do
  spread('ZADD', queue .. list, pairs_of_it)
end
-- The right end is the front; the first of the batch was claimed first and comes first again.
for i = #back, 1, -1 do
  keep('RPUSH', queue .. 'pending', back[i])
end
spread('HSET', own .. 'waiting', notes)
if #notes > 0 then redis.call('EXPIRE', own .. 'waiting', 604800) end
local staying = {}
for _, id in ipairs(ended) do
  staying[id] = find('rnhs', verdicts[numbers[id]], 1, true)
end
leave_gates(queue, own, ended, staying)
for i = at, #ARGV, 2 do
  -- By number, not by id: of two settlements of one task one was stale.
  local what, number = string.match(ARGV[i], '^(%a?)(%d+)$')
  number = tonumber(number)
  if what == '' then
    if keepers[number] then remember(keepers[number], ARGV[i + 1]) end
  elseif held[number] and what == 'p' then
    follow(queue, own, followed, ARGV[i + 1])
  elseif held[number] and what == 'w' then
    write_down(own, ARGV[i + 1])
  elseif held[number] then
    local name, text = string.match(ARGV[i + 1], '^([^\n]*)\n(.*)$')
    local trace = what == 'f' and trace_record or trace_end
    trace(own, held[number], name, text)
  end
end
for prefix, fresh in pairs(followed) do flush(prefix, fresh) end
if #lists.archived > 0 then trim(queue, own, 1000) end
tally(queue, done, failed)
return {stale}
