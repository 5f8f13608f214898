-- The minimum cost of enqueueing many tasks at once: only what every reader of the store must find.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix; then for each task: id, message.
-- Returns: how many were put on the queue.
local queue, ids = ARGV[3], {}
for i = 4, #ARGV, 2 do
  local key = queue .. 't:' .. ARGV[i]
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'msg', ARGV[i + 1], 'state', 'pending', 'pending_since', stamp)
    ids[#ids + 1] = ARGV[i]
  end
end
spread('LPUSH', KEYS[1], ids)
return #ids
