-- Takes the first tasks of a list.
-- Needs clock.lua. Gives: take(queue, state, most, only, bound).

-- The first ids of a group; they are removed from it, and its name with the last of them.
local function take_group(queue, group, most)
  local key = queue .. 'g:' .. group
  local ids = keep('ZRANGE', key, 0, most - 1)
  if #ids > 0 then keep('ZREMRANGEBYRANK', key, 0, #ids - 1) end
  local left = keep('ZCARD', key)
  if left == 0 then keep('SREM', queue .. 'groups', group) end
  return ids, left
end

-- The oldest pending ids; with a bound (nanoseconds) only those that became pending by then. Later ones among them stay where
-- they are: a task that is put back keeps its place at the right end and gets a new time.
local function take_pending(key, queue, most, bound)
  local found, ids, later = keep('LRANGE', key, -most, -1), {}, {}
  for i = #found, 1, -1 do
    local since = bound and of_task('HGET', queue .. 't:' .. found[i], 'pending_since')
    -- Texts of equal length compare as numbers do; Lua's numbers are not precise enough.
    if since and (#since > #bound or #since == #bound and since > bound) then
      table.insert(later, 1, found[i])
    else
      ids[#ids + 1] = found[i]
    end
  end
  keep('LTRIM', key, 0, -(#found + 1))
  if #later > 0 then spread('RPUSH', key, later) end
  if #ids == 0 then return ids, 0 end
  return ids, keep('LLEN', key) - #later
end

-- The first ids of a state's list, in its order; they are removed from it. Also how many remain (aggregating:
-- how many groups do; of the group `only`, if there is one). With a bound: of those that became pending by then
-- (nanoseconds), or whose score is not beyond it.
local function take(queue, state, most, only, bound)
  local key, ids = queue .. state, {}
  if only then
    return take_group(queue, only, most)
  elseif state == 'pending' then
    return take_pending(key, queue, most, bound)
  elseif state == 'aggregating' then
    local groups = keep('SRANDMEMBER', queue .. 'groups', most)
    table.sort(groups)
    for _, group in ipairs(groups) do
      if #ids == most then break end
      for _, id in ipairs((take_group(queue, group, most - #ids))) do ids[#ids + 1] = id end
    end
    return ids, keep('SCARD', queue .. 'groups')
  end
  if bound then
    ids = keep('ZRANGEBYSCORE', key, '-inf', bound, 'LIMIT', 0, most)
    -- With no id the range would end at -1, which is the whole list.
    if #ids > 0 then keep('ZREMRANGEBYRANK', key, 0, #ids - 1) end
    return ids, keep('ZCOUNT', key, '-inf', bound)
  end
  ids = keep('ZRANGE', key, 0, most - 1)
  if #ids > 0 then keep('ZREMRANGEBYRANK', key, 0, #ids - 1) end
  return ids, keep('ZCARD', key)
end
