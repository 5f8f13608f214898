-- Archives unreadable active tasks with their message unchanged.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix, own prefix; then for each task: id, run, the attempt to record.
-- Returns: how many.
local queue, own = ARGV[3], ARGV[4]
local archived = {}
for i = 5, #ARGV, 3 do
  local id, key = ARGV[i], queue .. 't:' .. ARGV[i]
  if of_task('HGET', key, 'state') == 'active' and is_run(claimed(own, {id})[1], ARGV[i + 1]) then
    keep('LREM', KEYS[1], -1, id)
    keep('ZREM', queue .. 'lease', id)
    disclaim(own, {id})
    keep('ZADD', queue .. 'archived', whole(now), id)
    redis.call('HSET', key, 'state', 'archived')
    redis.call('HDEL', key, 'run', 'lost', 'ran', 'crash', 'alone')
    remember(key, ARGV[i + 2])
    archived[#archived + 1] = id
  end
end
leave_gates(queue, own, archived)
return #archived
