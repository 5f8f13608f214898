-- The minimum cost of settling and claiming in one call: all effects of "done" and of "dequeue", nothing more.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix, how many to claim, lease in ms; then the ids whose tasks are done.
-- Returns: id and message of each claimed task.
local queue, wanted = ARGV[3], tonumber(ARGV[4])
local done, keys, reply = {}, {}, {}
for i = 6, #ARGV do
  if redis.call('LREM', queue .. 'active', -1, ARGV[i]) == 1 then
    done[#done + 1] = ARGV[i]
    keys[#keys + 1] = queue .. 't:' .. ARGV[i]
  end
end
if #done > 0 then
  spread('ZREM', queue .. 'lease', done)
  wipe(keys)
  tally(queue, #done, 0)
end
if wanted == 0 or redis.call('EXISTS', queue .. 'paused') == 1 then return reply end
local ids = redis.call('RPOP', KEYS[1], wanted)
if not ids then return reply end
local lease, leases = whole((millis + tonumber(ARGV[5])) / 1000), {}
for i, id in ipairs(ids) do
  local key = queue .. 't:' .. id
  reply[2 * i - 1], reply[2 * i] = id, redis.call('HGET', key, 'msg')
  redis.call('HSET', key, 'state', 'active')
  redis.call('HDEL', key, 'pending_since')
  leases[2 * i - 1], leases[2 * i] = lease, id
end
spread('LPUSH', queue .. 'active', ids)
spread('ZADD', queue .. 'lease', leases)
return reply
