-- Puts active tasks that cannot be read aside as archived, message untouched.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix; then for each task: id, run.
-- Returns: how many.
local queue = ARGV[3]
local count = 0
for i = 4, #ARGV, 2 do
  local id, key = ARGV[i], queue .. 't:' .. ARGV[i]
  local held = redis.call('HMGET', key, 'state', 'run')
  if held[1] == 'active' and (held[2] or '0') == ARGV[i + 1] then
    redis.call('LREM', KEYS[1], -1, id)
    redis.call('ZREM', queue .. 'lease', id)
    redis.call('ZADD', queue .. 'archived', whole(now), id)
    redis.call('HSET', key, 'state', 'archived')
    redis.call('HDEL', key, 'run', 'by', 'lost')
    count = count + 1
  end
end
return count
