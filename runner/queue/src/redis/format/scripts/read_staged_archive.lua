-- Takes ids out of a staged set whose tasks cannot be aggregated: unreadable ones are archived with their message
-- unchanged; ids without a task, or with a task in another state, are dropped from the set.
-- KEYS: the set.
-- ARGV after the clock: queue prefix; then ids.
-- Returns: how many were archived.
local queue, archived = ARGV[3], 0
for i = 4, #ARGV do
  local id, key = ARGV[i], queue .. 't:' .. ARGV[i]
  if keep('ZREM', KEYS[1], id) == 1 then
    local held = of_task('HMGET', key, 'msg', 'state')
    if not held then
      -- The key holds something that is not a task; it is not ours to delete.
    elseif not held[1] then
      redis.call('DEL', key)
    elseif held[2] == 'aggregating' then
      keep('ZADD', queue .. 'archived', whole(now), id)
      redis.call('HSET', key, 'state', 'archived')
      archived = archived + 1
    end
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then keep('ZREM', queue .. 'aggregation_sets', KEYS[1]) end
return archived
