-- Finds active tasks whose lease ran out, and repairs what does not belong together on the way.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix, grace in ms, how many at most.
-- Returns: for each task: id, message, run.
-- An id without a task is dropped. An active id without a lease gets one that ends now, so that the grace
-- passes before it is taken back; only the 1000 oldest are looked at, and only when the numbers differ.
local queue = ARGV[3]
local lease = queue .. 'lease'
local cutoff = whole((millis - tonumber(ARGV[4])) / 1000)

local function drop(id)
  redis.call('LREM', KEYS[1], 0, id)
  redis.call('ZREM', lease, id)
  redis.call('DEL', queue .. 't:' .. id)
end

if redis.call('LLEN', KEYS[1]) ~= redis.call('ZCARD', lease) then
  for _, id in ipairs(redis.call('LRANGE', KEYS[1], -1000, -1)) do
    if not redis.call('ZSCORE', lease, id) then
      if redis.call('HGET', queue .. 't:' .. id, 'state') == 'active' then
        redis.call('ZADD', lease, whole(now), id)
      else
        redis.call('LREM', KEYS[1], -1, id)
      end
    end
  end
end

local reply = {}
for _, id in ipairs(redis.call('ZRANGE', lease, '-inf', cutoff, 'BYSCORE', 'LIMIT', 0, ARGV[5])) do
  local held = redis.call('HMGET', queue .. 't:' .. id, 'msg', 'state', 'run')
  if not held[1] then
    drop(id)
  elseif held[2] ~= 'active' then
    redis.call('ZREM', lease, id)
    redis.call('LREM', KEYS[1], 0, id)
  else
    reply[#reply + 1] = id
    reply[#reply + 1] = held[1]
    reply[#reply + 1] = held[3] or '0'
  end
end
return reply
