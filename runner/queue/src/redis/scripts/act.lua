-- Carries out an operator's action on one task.
-- KEYS: the task.
-- ARGV after the clock: queue prefix, own prefix, id, 'run', 'archive' or 'delete'.
-- Returns: 'ok'; 'missing'; or 'state' and the state that does not allow it.
local queue, own, id, action = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local held = redis.call('HMGET', KEYS[1], 'state', 'group')
local state = held[1]
if not state then return {'missing'} end
if state == 'active'
  or (action == 'run' and state == 'pending')
  or (action == 'archive' and state == 'archived') then
  return {'state', state}
end

if state == 'aggregating' then
  local key = queue .. 'g:' .. (held[2] or '')
  -- Not in its group: it is being put together with others right now.
  if redis.call('ZREM', key, id) == 0 then return {'state', state} end
  if redis.call('ZCARD', key) == 0 then redis.call('SREM', queue .. 'groups', held[2]) end
elseif state == 'pending' then
  redis.call('LREM', queue .. 'pending', 0, id)
else
  redis.call('ZREM', queue .. state, id)
end
redis.call('HDEL', own .. 'waiting', id)

if action == 'run' then
  redis.call('HSET', KEYS[1], 'state', 'pending', 'pending_since', stamp)
  disclaim(own, {id})
  redis.call('HDEL', KEYS[1], 'result')
  redis.call('LPUSH', queue .. 'pending', id)
elseif action == 'archive' then
  redis.call('HSET', KEYS[1], 'state', 'archived')
  redis.call('ZADD', queue .. 'archived', whole(now), id)
  trim(queue, own, 1000)
else
  forget(queue, own, {id})
end
return {'ok'}
