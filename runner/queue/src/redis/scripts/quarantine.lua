-- Puts active tasks that cannot be read aside as archived, message untouched.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix, own prefix; then for each task: id, run, what to remember of it.
-- Returns: how many.
local queue, own = ARGV[3], ARGV[4]
local count = 0
for i = 5, #ARGV, 3 do
  local id, key = ARGV[i], queue .. 't:' .. ARGV[i]
  local held = redis.call('HMGET', key, 'state', 'run')
  if held[1] == 'active' and is_run(held[2], ARGV[i + 1]) then
    redis.call('LREM', KEYS[1], -1, id)
    redis.call('ZREM', queue .. 'lease', id)
    redis.call('ZADD', queue .. 'archived', whole(now), id)
    redis.call('HSET', key, 'state', 'archived')
    redis.call('HSET', key, 'att', '1')
    redis.call('HDEL', key, 'run', 'lost')
    redis.call('RPUSH', own .. 'att:' .. id, ARGV[i + 2])
    redis.call('EXPIRE', own .. 'att:' .. id, 7776000)
    count = count + 1
  end
end
return count
