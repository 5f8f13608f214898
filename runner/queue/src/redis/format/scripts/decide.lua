-- Decisions about the occurrences of a schedule, and their record.
-- Needs clock.lua and count.lua. Gives: decided(…), missed(…), busy(key, task, queue, how) and record(keys, texts, …).
-- how: the overlap policy: 'allow'; 'skip', 'skip_ignoring_retries', and behind these '_unserved' if no live server is
-- known to serve the queue.

-- Maximum length of a text from Redis inside a reason; the longest id is shorter.
local function short(text)
  return string.sub(text, 1, 256)
end

-- A decision in JSON. queue: the prefix of the task's queue, if known.
local function decided(id, instance, nominal, kind, reason, task, count, queue)
  return cjson.encode({
    s = id, n = tonumber(nominal), k = kind, r = reason, t = task, c = count, d = stamp, i = instance,
    q = queue and string.match(queue, '^asynq:{(.*)}:$'),
  })
end

-- The decision about missed occurrences: how many, newest and oldest instant, further details.
local function missed(id, instance, count, last, oldest, note)
  local reason = 'too late, from ' .. oldest .. note
  return decided(id, instance, last, 'missed', reason, nil, tonumber(count))
end

-- The decision about an occurrence that the previous task blocks. what: see busy.
local function overlaps(id, instance, nominal, task, what, how)
  task = short(task or '')
  local reason = 'overlap: previous task ' .. task .. ' ' .. what
  if find(how, '_unserved', 1, true) then reason = reason .. '; no live server serves its queue' end
  return decided(id, instance, nominal, 'skipped', reason, task, 1)
end

-- What an unfinished previous task is doing: it waits or is due in the queue that the schedule names now, or a worker holds
-- it. A task that waits in another queue was left behind by an edit and does not count: if no server serves that queue,
-- the schedule would never fire again. Nor does one in the retry state that is on no list.
local function busy(key, task, queue, how)
  local state = key and key ~= '' and of_task('HGET', key, 'state')
  if string.sub(key or '', 1, #queue + 2) == queue .. 't:' then
    if state == 'pending' or state == 'active' or state == 'scheduled' then return 'is ' .. state end
    if state ~= 'retry' or find(how, 'ignoring_retries', 1, true) then return end
    local due = try('ZSCORE', queue .. 'retry', task or '')
    due = type(due) == 'string' and tonumber(due)
    -- No retry is so far in the future that its year has more than four digits.
    if not due or due < 0 or due > 253402300799 then return end
    local time = due % 86400
    return string.format('waits for its retry at %sT%02d:%02d:%02dZ', day_of(due), math.floor(time / 3600),
      math.floor(time % 3600 / 60), math.floor(time % 60))
  end
  if state ~= 'active' or not task then return end
  local ends = try('ZSCORE', string.sub(key, 1, #key - #task - 2) .. 'lease', task)
  if type(ends) == 'string' and tonumber(ends) > now then return 'is active' end
end

-- Enqueues a task for an occurrence. Returns the decision, whether the task was enqueued, and its id: that of the task which waited,
-- if that one took its place.
-- fire: nominal instant, '1' if it is late, task id, message, lock, lock ttl in ms, when, group, headers to keep beside
-- the message or ''.
local function enqueue(id, instance, queue, fire)
  local nominal, late, task, msg, lock, ttl, at, group, headers = unpack(fire)
  local lists = {pending = {}, scheduled = {}}
  local code, took = put(queue, lists, task, msg, lock, ttl, at, group)
  flush(queue, lists)
  task = took or task
  keep_headers(queue, task, headers, code, ttl)
  if code == -1 then
    local holder = short(look(false, 'GET', lock) or '')
    return decided(id, instance, nominal, 'skipped', 'unique: task ' .. holder .. ' holds the lock', holder, 1, queue), false
  end
  -- A task with this id is this occurrence, enqueued before.
  return decided(id, instance, nominal, 'fired', late == '1' and 'catch_up' or 'on_time', task, 1, queue), true, task
end

-- Adds decisions to the record of all and to that of their schedule. Gets how many to keep in each, and for how long.
local function record(all, own, texts, most, most_own, seconds)
  if #texts == 0 then return end
  for _, text in ipairs(texts) do
    keep('XADD', all, 'MAXLEN', '~', most, '*', 'd', text)
    keep('LPUSH', own, text)
  end
  redis.call('LTRIM', own, 0, tonumber(most_own) - 1)
  redis.call('EXPIRE', own, seconds)
end
