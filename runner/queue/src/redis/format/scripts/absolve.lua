-- Undoes the crash counts of runs whose process is alive.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix, own prefix; then for each run: id, run.
-- Returns: for each: 1 if it was undone, 2 if the run still has its claim, 0 if there is nothing to undo.
local queue, own = ARGV[3], ARGV[4]
local reply, ids = {}, {}
for i = 5, #ARGV, 2 do
  local id, run, key = ARGV[i], ARGV[i + 1], queue .. 't:' .. ARGV[i]
  local held = of_task('HMGET', key, 'state', 'crash') or {}
  local counted, before = string.match(held[2] or '', '^(%d+) (%d+)$')
  local answer = 0
  if counted == run then
    answer = 1
    if tonumber(before) > 0 then
      redis.call('HSET', key, 'lost', before)
      redis.call('HDEL', key, 'crash')
    else
      redis.call('HDEL', key, 'lost', 'ran', 'crash')
      ids[#ids + 1] = id
    end
  elseif held[1] == 'active' and is_run(claimed(own, {id})[1], run) then
    answer = 2
  end
  reply[#reply + 1] = answer
end
cleared(own, ids)
return reply
