-- Finds active tasks whose lease ran out, and repairs what does not belong together on the way.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix, grace in ms, the same for a lease that none of our workers took, how many at most.
-- Returns: the present in ms; then for each task: id, message, run, how many runs were lost before, who claimed it.
-- An id without a task is dropped. An active id without a lease gets one that ends now, so that the grace
-- passes before it is taken back; only the 1000 oldest are looked at, and only when the numbers differ.
local queue = ARGV[3]
local lease = queue .. 'lease'
local cutoff = whole((millis - tonumber(ARGV[4])) / 1000)
local foreign = math.floor((millis - tonumber(ARGV[5])) / 1000)

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

local reply = {whole(millis)}
local found = redis.call('ZRANGE', lease, '-inf', cutoff, 'BYSCORE', 'LIMIT', 0, ARGV[6], 'WITHSCORES')
for i = 1, #found, 2 do
  local id = found[i]
  local held = redis.call('HMGET', queue .. 't:' .. id, 'msg', 'state', 'run', 'lost', 'by')
  if not held[1] then
    drop(id)
  elseif held[2] ~= 'active' then
    redis.call('ZREM', lease, id)
    redis.call('LREM', KEYS[1], 0, id)
  elseif held[3] or tonumber(found[i + 1]) <= foreign then
    local at = #reply
    reply[at + 1], reply[at + 2], reply[at + 3] = id, held[1], held[3] or '0'
    reply[at + 4], reply[at + 5] = held[4] or '0', held[5] or ''
  end
end
return reply
