-- Puts scheduled tasks on their queue at once.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix, own prefix; then ids.
-- Returns: how many.
local queue, own = ARGV[3], ARGV[4]
local ids = {}
for i = 5, #ARGV do
  local id = ARGV[i]
  keep('HDEL', own .. 'waiting', id)
  if of_task('HGET', queue .. 't:' .. id, 'state') == 'scheduled'
    and keep('ZREM', queue .. 'scheduled', id) == 1 then
    redis.call('HSET', queue .. 't:' .. id, 'state', 'pending', 'pending_since', stamp)
    ids[#ids + 1] = id
  end
end
spread('LPUSH', KEYS[1], ids)
return #ids
