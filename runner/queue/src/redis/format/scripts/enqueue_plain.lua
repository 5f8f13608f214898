-- Enqueues tasks without delay, lock and group on one queue, each independently of the others.
-- KEYS: the queue's pending list (names the slot), the list of all queues unless the queue is listed by other means.
-- ARGV after the clock: queue prefix, queue; then for each task: id, message.
-- Returns: seconds, nanoseconds, then number (from 1) and 0 of each task whose id is taken.
local prefix, pending, reply = ARGV[3] .. 't:', {}, {whole(now), fraction}
if KEYS[2] and type(try('SADD', KEYS[2], ARGV[4])) == 'table' then keep('SADD', KEYS[2], ARGV[4]) end
for at = 5, #ARGV, 2 do
  local key = prefix .. ARGV[at]
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'msg', ARGV[at + 1], 'state', 'pending', 'pending_since', stamp)
    pending[#pending + 1] = ARGV[at]
  else
    reply[#reply + 1] = (at - 3) / 2
    reply[#reply + 1] = 0
  end
end
spread('LPUSH', KEYS[1], pending)
return reply
