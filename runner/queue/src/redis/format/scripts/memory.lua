-- Estimates the memory of a queue's tasks as asynq does, from 20 tasks of each state.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix.
-- Returns: bytes.
local queue, total = ARGV[3], 0
local function usage(key) return redis.call('MEMORY', 'USAGE', key) or 0 end

local function estimate(ids, size)
  if #ids == 0 then return end
  local sum = 0
  for _, id in ipairs(ids) do sum = sum + usage(queue .. 't:' .. id) end
  total = total + sum / #ids * size
end

for _, list in ipairs({'pending', 'active'}) do
  estimate(look({}, 'LRANGE', queue .. list, 0, 19), look(0, 'LLEN', queue .. list))
  total = total + usage(queue .. list)
end
for _, set in ipairs({'scheduled', 'retry', 'archived', 'completed'}) do
  estimate(look({}, 'ZRANGE', queue .. set, 0, 19), look(0, 'ZCARD', queue .. set))
  total = total + usage(queue .. set)
end
local sample, waiting, groups = {}, 0, some_groups(queue)
for nth, group in ipairs(groups) do
  waiting = waiting + look(0, 'ZCARD', queue .. 'g:' .. group)
  if nth <= 5 then
    for _, id in ipairs(look({}, 'ZRANGE', queue .. 'g:' .. group, 0, 19)) do sample[#sample + 1] = id end
  end
end
estimate(sample, waiting * look(0, 'SCARD', queue .. 'groups') / math.max(#groups, 1))
return math.floor(total)
