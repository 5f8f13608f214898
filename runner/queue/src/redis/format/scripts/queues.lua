-- Queues at a glance.
-- KEYS: the pending list of each queue.
-- ARGV after the clock: the prefix of each queue.
-- Returns: a list for each queue: seconds, nanoseconds, sizes of pending, active, scheduled, retry, archived, completed and
-- of all groups together (a lower bound if there are very many), 1 if paused, pending_since of the oldest pending task or '',
-- processed today, failed today, processed, failed.
local day, replies = today(), {}
for nth = 1, #KEYS do
  local pending, queue = KEYS[nth], ARGV[nth + 2]
  local reply = {whole(now), fraction}
  local function add_reply(value) reply[#reply + 1] = value or '' end
  add_reply(look(0, 'LLEN', pending))
  add_reply(look(0, 'LLEN', queue .. 'active'))
  for _, set in ipairs({'scheduled', 'retry', 'archived', 'completed'}) do
    add_reply(look(0, 'ZCARD', queue .. set))
  end
  local groups = some_groups(queue)
  -- Each of the groups that are not read has at least one task.
  local grouped = math.max(look(0, 'SCARD', queue .. 'groups') - #groups, 0)
  for _, group in ipairs(groups) do
    grouped = grouped + look(0, 'ZCARD', queue .. 'g:' .. group)
  end
  add_reply(grouped)
  add_reply(redis.call('EXISTS', queue .. 'paused'))
  local oldest = look(false, 'LINDEX', pending, -1)
  add_reply(oldest and look(false, 'HGET', queue .. 't:' .. oldest, 'pending_since'))
  add_reply(look(false, 'GET', queue .. 'processed:' .. day))
  add_reply(look(false, 'GET', queue .. 'failed:' .. day))
  add_reply(look(false, 'GET', queue .. 'processed'))
  add_reply(look(false, 'GET', queue .. 'failed'))
  replies[nth] = reply
end
return replies
