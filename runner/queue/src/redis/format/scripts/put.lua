-- Enqueues one task, for producers and schedules.
-- Needs clock.lua. Gives: put(queue, lists, id, msg, lock, ttl, at, group) and flush(queue, lists).
-- at: empty for now, '@ms' for an instant, '+ms' for a delay; ttl: milliseconds of the lock.
-- Returns 1 pending, 2 scheduled, 3 aggregating; 0 the id is taken, -1 the lock is held. A refusal leaves
-- nothing behind: the lock is taken last. The lists are written by flush, once for all tasks of a queue.

local function put(queue, lists, id, msg, lock, ttl, at, group)
  local key = queue .. 't:' .. id
  if lock ~= '' and keep('GET', lock) then return -1 end
  if redis.call('EXISTS', key) == 1 then return 0 end
  local due = millis
  if string.sub(at, 1, 1) == '@' then
    due = tonumber(string.sub(at, 2))
  elseif at ~= '' then
    due = millis + tonumber(string.sub(at, 2))
  end
  local later = due > millis
  if lock ~= '' then
    local from = later and due or millis
    redis.call('SET', lock, id, 'EX', whole((from - millis + tonumber(ttl)) / 1000))
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

local function flush(queue, lists)
  spread('LPUSH', queue .. 'pending', lists.pending)
  if #lists.scheduled > 0 then
    spread('ZADD', queue .. 'scheduled', lists.scheduled)
    -- Workers sleep until the next task is due: this one may be sooner. Without the right to publish they wake up later.
    try('PUBLISH', 'runner:delayed', '')
  end
end
