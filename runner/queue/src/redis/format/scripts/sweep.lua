-- Deletes completed tasks whose retention ended, trims the archive, drops notes of tasks that moved on.
-- KEYS: the queue's completed set.
-- ARGV after the clock: queue prefix, own prefix, how many at most; of the archive how many tasks, for how many seconds;
-- where to continue among the notes ('0' to begin).
-- Returns: how many expired, how many were trimmed, how many were trimmed by anyone since the last call, where to continue.
local queue, own, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local ids = keep('ZRANGE', KEYS[1], '-inf', whole(now), 'BYSCORE', 'LIMIT', 0, limit)
spread('ZREM', KEYS[1], ids)
forget(queue, own, ids)
bound(own, ARGV[6], ARGV[7])
local trimmed = 0
if #ids < limit then trimmed = trim(queue, own, limit - #ids) end
-- Another program may have moved or deleted a task that had a note.
local cursor = keep('HSCAN', own .. 'waiting', ARGV[8], 'COUNT', 100)
for i = 1, #cursor[2], 2 do
  if of_task('HGET', queue .. 't:' .. cursor[2][i], 'state') ~= 'scheduled' then
    redis.call('HDEL', own .. 'waiting', cursor[2][i])
  end
end
return {#ids, trimmed, taken_count(own .. 'trimmed'), cursor[1]}
