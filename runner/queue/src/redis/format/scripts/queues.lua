-- Queues at a glance.
-- KEYS: the pending list of each queue.
-- ARGV after the clock: how many groups may be read in all, or '' for no bound; then the prefix of each queue.
-- Returns: a list for each queue, empty if its groups are more than may still be read: seconds, nanoseconds, sizes of pending,
-- active, scheduled, retry, archived, completed and of all groups together (a lower bound if there are very many), 1 if paused,
-- pending_since of the oldest pending task or '', processed today, failed today, processed, failed.
local day, replies, left = today(), {}, tonumber(ARGV[3]) or math.huge

local function at_a_glance(pending, queue, group_count)
  local reply = {whole(now), fraction}
  local function add_reply(value) reply[#reply + 1] = value or '' end
  add_reply(look(0, 'LLEN', pending))
  add_reply(look(0, 'LLEN', queue .. 'active'))
  for _, set in ipairs({'scheduled', 'retry', 'archived', 'completed'}) do
    add_reply(look(0, 'ZCARD', queue .. set))
  end
  local groups = group_count > 0 and some_groups(queue) or {}
  -- Each of the groups that are not read has at least one task.
  local grouped = math.max(group_count - #groups, 0)
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
  return reply
end

for nth = 1, #KEYS do
  local queue = ARGV[nth + 3]
  local group_count = look(0, 'SCARD', queue .. 'groups')
  if group_count > left then
    replies[nth] = {}
  else
    left = left - group_count
    replies[nth] = at_a_glance(KEYS[nth], queue, group_count)
  end
end
return replies
