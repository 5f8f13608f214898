-- Records whether a run is the only one in its process.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix, own prefix, id, run, '1' or ''.
-- Returns: 1 if the caller still holds the claim.
local queue, own, id, run = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if not is_run(claimed(own, {id})[1], run) then return 0 end
local key = queue .. 't:' .. id
if of_task('HGET', key, 'state') ~= 'active' then return 0 end
if ARGV[7] == '1' then
  redis.call('HSET', key, 'alone', run)
else
  redis.call('HDEL', key, 'alone')
end
return 1
