-- Deletes the first tasks of a staged set, and the set with the last of them. Their locks stay.
-- KEYS: the set.
-- ARGV after the clock: queue prefix, how many at most.
-- Returns: how many were deleted, how many ids are left.
local queue = ARGV[3]
local ids = keep('ZRANGE', KEYS[1], 0, tonumber(ARGV[4]) - 1)
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #ids - 1)
local gone, deleted = {}, 0
for _, id in ipairs(ids) do
  local key = queue .. 't:' .. id
  if of_task('HGET', key, 'state') == 'aggregating' then
    gone[#gone + 1] = key
    deleted = deleted + 1
  end
end
wipe(gone)
local left = redis.call('ZCARD', KEYS[1])
if left == 0 then keep('ZREM', queue .. 'aggregation_sets', KEYS[1]) end
return {deleted, left}
