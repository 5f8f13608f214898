-- Takes ids out of a staged set whose tasks cannot be put together with others: those that cannot be read are
-- archived, message untouched; an id without a task is forgotten, one whose task lies elsewhere is not its own.
-- KEYS: the set.
-- ARGV after the clock: queue prefix; then ids.
-- Returns: how many were archived.
local queue, archived = ARGV[3], 0
for i = 4, #ARGV do
  local id, key = ARGV[i], queue .. 't:' .. ARGV[i]
  if keep('ZREM', KEYS[1], id) == 1 then
    local held = of_task('HMGET', key, 'msg', 'state')
    if not held then
      -- What lies there is no task, and not ours to delete.
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
