-- Takes the first tasks of a list.
-- Needs clock.lua. Gives: take(queue, state, most, only).

-- The first ids of a group; they are removed from it, and its name with the last of them.
local function take_group(queue, group, most)
  local key = queue .. 'g:' .. group
  local ids = keep('ZRANGE', key, 0, most - 1)
  keep('ZREMRANGEBYRANK', key, 0, #ids - 1)
  local left = keep('ZCARD', key)
  if left == 0 then keep('SREM', queue .. 'groups', group) end
  return ids, left
end

-- The first ids of a state's list, in its order; they are removed from it. Also how many remain (aggregating:
-- how many groups do; of the group `only`, if there is one).
local function take(queue, state, most, only)
  local key, ids = queue .. state, {}
  if only then
    return take_group(queue, only, most)
  elseif state == 'pending' then
    -- The right end is the oldest.
    local found = keep('LRANGE', key, -most, -1)
    keep('LTRIM', key, 0, -(#found + 1))
    for i = #found, 1, -1 do ids[#ids + 1] = found[i] end
    return ids, keep('LLEN', key)
  elseif state == 'aggregating' then
    local groups = keep('SRANDMEMBER', queue .. 'groups', most)
    table.sort(groups)
    for _, group in ipairs(groups) do
      if #ids == most then break end
      for _, id in ipairs((take_group(queue, group, most - #ids))) do ids[#ids + 1] = id end
    end
    return ids, keep('SCARD', queue .. 'groups')
  end
  ids = keep('ZRANGE', key, 0, most - 1)
  keep('ZREMRANGEBYRANK', key, 0, #ids - 1)
  return ids, keep('ZCARD', key)
end
