-- Performs an operator's action on those of some tasks that are in one state, as far as there is time.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix, own prefix, state, 'run', 'archive' or 'delete', milliseconds, ids.
-- Returns: how many of the ids were looked at, how many tasks were changed.
local queue, own, state, action = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end
local deadline = clock() + ARGV[7]
local ids, at = {}, 8
while ARGV[at] do
  local id = ARGV[at]
  local held = of_task('HMGET', queue .. 't:' .. id, 'state', 'group')
  if held and held[1] == state then
    local there
    if state == 'aggregating' then
      local key = queue .. 'g:' .. (held[2] or '')
      -- Not in its group: it is being aggregated right now.
      there = keep('ZREM', key, id)
      if there == 1 and keep('ZCARD', key) == 0 then keep('SREM', queue .. 'groups', held[2] or '') end
    elseif state == 'pending' then
      -- From the right end, where the oldest are: lists are searched in their order. Long ones take their time.
      there = keep('LREM', queue .. 'pending', -1, id)
    else
      there = keep('ZREM', queue .. state, id)
    end
    if there == 1 then ids[#ids + 1] = id end
  end
  at = at + 1
  -- In a long list one search takes tens of milliseconds.
  if (state == 'pending' or at % 8 == 0) and clock() > deadline then break end
end
change(queue, own, state, action, ids, at - 8)
return {at - 8, #ids}
