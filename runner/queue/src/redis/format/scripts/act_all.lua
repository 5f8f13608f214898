-- Performs an operator's action on the first tasks of a list.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix, own prefix, state, 'run', 'archive' or 'delete', how many at most, group or ''
-- (all).
-- Returns: how many tasks were changed, how many remain in the list (aggregating: how many groups remain).
local queue, own, state, action = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local taken, left = take(queue, state, tonumber(ARGV[7]), ARGV[8] ~= '' and ARGV[8])
local ids = {}
for _, id in ipairs(taken) do
  -- An id without a task is dropped, and one whose task is in another state.
  if of_task('HGET', queue .. 't:' .. id, 'state') == state then ids[#ids + 1] = id end
end

if action == 'delete' then
  forget(queue, own, ids)
  leave_gates(queue, own, ids)
  return {#ids, left}
end
if state == 'scheduled' then spread('HDEL', own .. 'waiting', ids) end
if action == 'run' then
  for _, id in ipairs(ids) do
    redis.call('HSET', queue .. 't:' .. id, 'state', 'pending', 'pending_since', stamp)
    redis.call('HDEL', queue .. 't:' .. id, 'result')
  end
  disclaim(own, ids)
  spread('LPUSH', KEYS[1], ids)
else
  local rows = {}
  for _, id in ipairs(ids) do
    redis.call('HSET', queue .. 't:' .. id, 'state', 'archived')
    rows[#rows + 1] = whole(now)
    rows[#rows + 1] = id
  end
  spread('ZADD', queue .. 'archived', rows)
  leave_gates(queue, own, ids)
  trim(queue, own, tonumber(ARGV[7]))
end
return {#ids, left}
