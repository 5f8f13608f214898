-- Checks some of a queue's tasks, and repairs those that are inconsistent.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix, own prefix, the attempt to record of a task that is archived, and either the name of
-- a list, where to begin in it and how many at most, or '' and then ids of tasks.
-- Returns: where to continue ('0' at the end); then for each repaired task: what was done, id.
local queue, own, reason, place = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local budget = {left = 100000}
local reply, ids = {'0'}, {}

if place == '' then
  for i = 7, #ARGV do ids[#ids + 1] = ARGV[i] end
else
  local from, most = tonumber(ARGV[7]), tonumber(ARGV[8])
  local list = place == 'pending' or place == 'active'
  ids = keep(list and 'LRANGE' or 'ZRANGE', queue .. place, from, from + most - 1)
  if #ids == most then reply[1] = whole(from + most) end
end

local function tell(done, id)
  reply[#reply + 1] = done
  reply[#reply + 1] = id
end

-- Whether each lease has a list entry; an entry without a lease is found from the other side if the numbers agree.
local paired = keep('LLEN', queue .. 'active') == keep('ZCARD', queue .. 'lease')

-- A pending task found by its key is on the list if tasks that became pending before it still wait.
local function since(id)
  local text = of_task('HGET', queue .. 't:' .. id, 'pending_since')
  -- Nanoseconds since the epoch, of any year from 1970 to 2286.
  return text and string.find(text, '^%d+$') and #text < 20 and tonumber(text)
end

local oldest
local function waits(id)
  if oldest == nil then
    local first = keep('LINDEX', KEYS[1], -1)
    oldest = first and since(first) or false
  end
  local began = oldest and since(id)
  return began and began >= oldest
end

-- Whether a task that was found on a list, or by its key, is consistent, as far as a cheap check shows.
local function fine(id)
  local key = queue .. 't:' .. id
  if not holds(key) then return false end
  local state = redis.call('HGET', key, 'state')
  if place == 'lease' then return state == 'active' and paired end
  if place ~= '' and state ~= place then return false end
  if state == 'active' then return keep('ZSCORE', queue .. 'lease', id) end
  if place ~= '' then return true end
  if state == 'pending' then return waits(id) end
  if state == 'retry' or state == 'scheduled' or state == 'archived' or state == 'completed' then
    return keep('ZSCORE', queue .. state, id)
  end
  if state ~= 'aggregating' then return false end
  local there, nameless = grouped(queue, redis.call('HGET', key, 'group') or '', id)
  if nameless then tell('misplaced', id) end
  return there
end

for _, id in ipairs(ids) do
  if not fine(id) then
    local done = repair_task(queue, own, id, budget, reason)
    if done and done ~= '' then tell(done, id) end
  end
end
return reply
