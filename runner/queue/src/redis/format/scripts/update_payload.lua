-- Replaces the message of a scheduled task, if it still is what the caller read.
-- KEYS: the task.
-- ARGV after the clock: the message as read, the message to write.
-- Returns: 'ok'; 'missing'; 'changed'; or 'state' and the state that does not allow the action.
local held = of_task('HMGET', KEYS[1], 'state', 'msg')
if not held or not held[2] then return {'missing'} end
if held[1] ~= 'scheduled' then return {'state', held[1] or ''} end
if held[2] ~= ARGV[3] then return {'changed'} end
redis.call('HSET', KEYS[1], 'msg', ARGV[4])
return {'ok'}
