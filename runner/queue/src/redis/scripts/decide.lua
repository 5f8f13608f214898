-- Decisions about the occurrences of a schedule, and their record.
-- Needs clock.lua. Gives: decided(…), missed(…), busy(key, task, queue) and record(keys, texts, …).

-- Of what stands in a reason and comes from Redis: the longest id is shorter.
local function short(text)
  return string.sub(text, 1, 256)
end

-- A decision in JSON. queue: the prefix of the task's queue, if it is known.
local function decided(id, instance, nominal, kind, reason, task, count, queue)
  return cjson.encode({
    s = id, n = tonumber(nominal), k = kind, r = reason, t = task, c = count, d = stamp, i = instance,
    q = queue and string.match(queue, '^asynq:{(.*)}:$'),
  })
end

-- The decision about what is too late: how many, newest and oldest instant, what else there is to say.
local function missed(id, instance, count, last, oldest, note)
  local reason = 'too late, from ' .. oldest .. note
  return decided(id, instance, last, 'missed', reason, nil, tonumber(count))
end

-- The decision about an occurrence that the previous task stands in the way of.
-- how: the overlap policy, 'skip_unserved' if no live server is known to serve the queue.
local function overlaps(id, instance, nominal, task, state, how)
  task = short(task or '')
  local reason = 'overlap: previous task ' .. task .. ' is ' .. state
  if how == 'skip_unserved' then reason = reason .. '; no live server serves its queue' end
  return decided(id, instance, nominal, 'skipped', reason, task, 1)
end

-- Whether a task in this state stands in the way: a failed one does not.
local function in_the_way(state)
  return state == 'pending' or state == 'active' or state == 'scheduled'
end

-- The state of the previous task, if it can still run: it waits or is due in the queue that the schedule names now,
-- or a worker holds it. One that waits in another queue was left behind by an edit. Perhaps nothing serves that queue,
-- and the schedule would never fire again.
local function busy(key, task, queue)
  local state = key and key ~= '' and of_task('HGET', key, 'state')
  if not in_the_way(state) then return end
  if string.sub(key, 1, #queue + 2) == queue .. 't:' then return state end
  if state ~= 'active' or not task then return end
  local ends = try('ZSCORE', string.sub(key, 1, #key - #task - 2) .. 'lease', task)
  if type(ends) == 'string' and tonumber(ends) > now then return state end
end

-- Puts a task on its queue for an occurrence: the decision, and whether it was enqueued.
-- fire: nominal instant, '1' if it is late, task id, message, lock, lock ttl in ms, when, group, headers to keep beside
-- the message or ''.
local function enqueue(id, instance, queue, fire)
  local nominal, late, task, msg, lock, ttl, at, group, headers = unpack(fire)
  local lists = {pending = {}, scheduled = {}}
  local code = put(queue, lists, task, msg, lock, ttl, at, group)
  flush(queue, lists)
  if code > 0 and headers ~= '' then redis.call('HSET', queue .. 't:' .. task, 'headers', headers) end
  if code == -1 then
    local holder = short(look(false, 'GET', lock) or '')
    return decided(id, instance, nominal, 'skipped', 'unique: task ' .. holder .. ' holds the lock', holder, 1, queue), false
  end
  -- A task of this id is this occurrence, enqueued before.
  return decided(id, instance, nominal, 'fired', late == '1' and 'catch_up' or 'on_time', task, 1, queue), true
end

-- Adds decisions to the record of all and to that of their schedule; how many to keep in each, and for how long.
local function record(all, own, texts, most, most_own, seconds)
  if #texts == 0 then return end
  for _, text in ipairs(texts) do
    keep('XADD', all, 'MAXLEN', '~', most, '*', 'd', text)
    keep('LPUSH', own, text)
  end
  redis.call('LTRIM', own, 0, tonumber(most_own) - 1)
  redis.call('EXPIRE', own, seconds)
end
