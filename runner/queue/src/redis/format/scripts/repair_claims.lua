-- Drops stale claims: of tasks that another program took over and ended.
-- KEYS: the hash of claims.
-- ARGV after the clock: queue prefix, own prefix, cursor ('0' to begin), about how many.
-- Returns: next cursor ('0' at the end), how many were dropped.
local queue, own = ARGV[3], ARGV[4]
local part = keep('HSCAN', KEYS[1], ARGV[5], 'COUNT', ARGV[6])
local dropped = {}
for i = 1, #part[2], 2 do
  local id = part[2][i]
  if id ~= '' and of_task('HGET', queue .. 't:' .. id, 'state') ~= 'active' then
    dropped[#dropped + 1] = id
  end
end
spread('HDEL', KEYS[1], dropped)
-- Only the field without an id is left of a queue that was used once. The counter is deleted with it: see next_run.
local idle = redis.call('EXISTS', queue .. 'active', queue .. 'lease') == 0
if idle and redis.call('HLEN', KEYS[1]) == redis.call('HEXISTS', KEYS[1], '') then
  redis.call('DEL', KEYS[1], own .. 'run')
else
  keep_claims(own)
end
return {part[1], #dropped}
