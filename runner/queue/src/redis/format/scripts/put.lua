-- Enqueues one task, for producers and schedules.
-- Needs clock.lua. Gives: put(queue, lists, id, msg, lock, ttl, at, group), flush(queue, lists) and
-- keep_headers(queue, id, headers, code, ttl).
-- at: empty for now, '@ms' for an instant, '+ms' for a delay; ttl: milliseconds of the lock, with letters behind them if it is not
-- of asynq's form: p the lock counts only while its task waits; r a task that waits is replaced, t it takes the new time.
-- Returns 1 pending, 2 scheduled, 3 aggregating; 4 to 6 the same, and the id of the task that waited and took what was given;
-- 0 the id is taken, -1 the lock is held. A refusal leaves nothing behind: the lock is taken last. The lists are written by
-- flush, once for all tasks of a queue.

local function flush(queue, lists)
  spread('LPUSH', queue .. 'pending', lists.pending)
  if #lists.scheduled > 0 then
    spread('ZADD', queue .. 'scheduled', lists.scheduled)
    -- Workers sleep until the next task is due: this one may be sooner. Without the right to publish they wake up later.
    try('PUBLISH', 'runner:delayed', '')
  end
end

-- What of this call is not on its lists yet.
local function flush_now(queue, lists)
  flush(queue, lists)
  lists.pending, lists.scheduled = {}, {}
end

-- Keeps headers beside the message that put wrote with this answer; a task that only took another time has its own.
local function keep_headers(queue, id, headers, code, ttl)
  local moved = code > 3 and find(ttl, 't', 1, true)
  if code > 0 and headers ~= '' and not moved then redis.call('HSET', queue .. 't:' .. id, 'headers', headers) end
end

-- Takes a task that waits off its list. A task in a group has no time that could change. Returns whether it waited.
local function unlist(queue, id, reschedules)
  local held = of_task('HMGET', queue .. 't:' .. id, 'state', 'group')
  local state, group = held and held[1], held and held[2] or ''
  local gone = 0
  if state == 'pending' then
    -- It is there once; looking for more would read the whole list.
    gone = keep('LREM', queue .. 'pending', 1, id)
  elseif state == 'scheduled' or state == 'retry' then
    gone = keep('ZREM', queue .. state, id)
  elseif state == 'aggregating' and not reschedules then
    gone = keep('ZREM', queue .. 'g:' .. group, id)
    if gone > 0 and keep('ZCARD', queue .. 'g:' .. group) == 0 then keep('SREM', queue .. 'groups', group) end
  end
  if gone == 0 then return false end
  -- It no longer waits for a handler or at a limit. Its place in an order stays, unless another payload takes its place.
  local own = 'runner:' .. string.sub(queue, 7)
  keep('HDEL', own .. 'waiting', id)
  local stays = {}
  for line in string.gmatch(keep('HGET', own .. 'gated', id) or '', '[^\n]+') do
    if string.byte(line) == 119 then
      keep('ZREM', own .. 'waiters:' .. string.sub(line, 2), id)
    elseif not reschedules then
      keep('ZREM', own .. 'holders:' .. string.sub(line, 2), id)
      keep('ZADD', own .. 'look', whole(millis), string.sub(line, 2))
    else
      stays[#stays + 1] = line
    end
  end
  if #stays > 0 then
    redis.call('HSET', own .. 'gated', id, table.concat(stays, '\n'))
  else
    keep('HDEL', own .. 'gated', id)
  end
  return true
end

-- Whether a task waits. One that is being aggregated does not.
local function waits(queue, id)
  local held = of_task('HMGET', queue .. 't:' .. id, 'state', 'group')
  local state = held and held[1]
  if state == 'aggregating' then return keep('ZSCORE', queue .. 'g:' .. (held[2] or ''), id) end
  return state == 'pending' or state == 'scheduled' or state == 'retry'
end

-- The message with another id: of a field that occurs twice the last one counts.
local function with_id(msg, id)
  local number, length = #id, ''
  while number > 127 do
    length = length .. string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  return msg .. '\26' .. length .. string.char(number) .. id
end

-- Writes a task and its lock. Returns its state as a code.
local function place(queue, lists, id, msg, lock, ttl, due, group)
  local key = queue .. 't:' .. id
  local later = due > millis
  if lock ~= '' then
    local from = later and due or millis
    redis.call('SET', lock, id, 'EX', whole((from - millis + ttl) / 1000))
  end
  if later then
    if lock ~= '' then
      redis.call('HSET', key, 'msg', msg, 'state', 'scheduled', 'unique_key', lock)
    else
      redis.call('HSET', key, 'msg', msg, 'state', 'scheduled')
    end
    lists.scheduled[#lists.scheduled + 1] = whole(due / 1000)
    lists.scheduled[#lists.scheduled + 1] = id
    return 2
  end
  if group ~= '' then
    redis.call('HSET', key, 'msg', msg, 'state', 'aggregating', 'group', group)
    keep('ZADD', queue .. 'g:' .. group, whole(now), id)
    keep('SADD', queue .. 'groups', group)
    return 3
  end
  if lock ~= '' then
    redis.call('HSET', key, 'msg', msg, 'state', 'pending', 'pending_since', stamp, 'unique_key', lock)
  else
    redis.call('HSET', key, 'msg', msg, 'state', 'pending', 'pending_since', stamp)
  end
  lists.pending[#lists.pending + 1] = id
  return 1
end

-- What happens to a task whose lock is held. Nothing if the lock does not count.
local function conflict(queue, lists, holder, letters, msg, lock, ttl, due, group)
  flush_now(queue, lists)
  local key, reschedules = queue .. 't:' .. holder, find(letters, 't', 1, true)
  if (reschedules or find(letters, 'r', 1, true)) and unlist(queue, holder, reschedules) then
    if reschedules then
      msg, group = redis.call('HGET', key, 'msg') or '', ''
      redis.call('HDEL', key, 'pending_since')
    else
      msg = with_id(msg, holder)
      redis.call('DEL', key)
    end
    return place(queue, lists, holder, msg, lock, ttl, due, group) + 3, holder
  end
  if find(letters, 'p', 1, true) and not waits(queue, holder) then return nil end
  return -1
end

local function put(queue, lists, id, msg, lock, ttl, at, group)
  local millis_of_lock, letters = string.match(ttl, '^([%d.]*)(%a*)$')
  ttl = tonumber(millis_of_lock) or 0
  local due = millis
  if string.sub(at, 1, 1) == '@' then
    due = tonumber(string.sub(at, 2))
  elseif at ~= '' then
    due = millis + tonumber(string.sub(at, 2))
  end
  local holder = lock ~= '' and keep('GET', lock)
  if holder and letters == '' then return -1 end
  if holder then
    local code, took = conflict(queue, lists, holder, letters, msg, lock, ttl, due, group)
    if code then return code, took end
  end
  if redis.call('EXISTS', queue .. 't:' .. id) == 1 then return 0 end
  return place(queue, lists, id, msg, lock, ttl, due, group)
end
