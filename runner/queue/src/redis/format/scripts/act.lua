-- Performs an operator's action on one task.
-- KEYS: the task.
-- ARGV after the clock: queue prefix, own prefix, id, 'run', 'archive' or 'delete'.
-- Returns: 'ok'; 'missing'; or 'state' and the state that does not allow the action.
local queue, own, id, action = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local held = of_task('HMGET', KEYS[1], 'state', 'group')
local state = held and held[1]
if not state then return {'missing'} end
if state == 'active'
  or (action == 'run' and state == 'pending')
  or (action == 'archive' and state == 'archived') then
  return {'state', state}
end

if state == 'aggregating' then
  local key = queue .. 'g:' .. (held[2] or '')
  -- Not in its group: it is being aggregated right now.
  if keep('ZREM', key, id) == 0 then return {'state', state} end
  if keep('ZCARD', key) == 0 then keep('SREM', queue .. 'groups', held[2] or '') end
elseif state == 'pending' then
  keep('LREM', queue .. 'pending', 0, id)
elseif state == 'scheduled' or state == 'retry' or state == 'archived' or state == 'completed' then
  keep('ZREM', queue .. state, id)
end
keep('HDEL', own .. 'waiting', id)

if action == 'run' then
  redis.call('HSET', KEYS[1], 'state', 'pending', 'pending_since', stamp)
  disclaim(own, {id})
  redis.call('HDEL', KEYS[1], 'result')
  keep('LPUSH', queue .. 'pending', id)
elseif action == 'archive' then
  redis.call('HSET', KEYS[1], 'state', 'archived')
  keep('ZADD', queue .. 'archived', whole(now), id)
  trim(queue, own, 1000)
else
  forget(queue, own, {id})
end
-- One that is run by hand keeps its places.
if action ~= 'run' then leave_gates(queue, own, {id}) end
return {'ok'}
