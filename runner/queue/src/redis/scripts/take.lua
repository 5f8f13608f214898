-- Taking the first tasks of a list.
-- Needs clock.lua. Gives: take(queue, state, most).

-- The first ids of a state's list, in its order; they are removed from it. Also how many remain (aggregating:
-- how many groups do).
local function take(queue, state, most)
  local key, ids = queue .. state, {}
  if state == 'pending' then
    -- The right end is the oldest.
    local found = redis.call('LRANGE', key, -most, -1)
    redis.call('LTRIM', key, 0, -(#found + 1))
    for i = #found, 1, -1 do ids[#ids + 1] = found[i] end
    return ids, redis.call('LLEN', key)
  elseif state == 'aggregating' then
    local groups = redis.call('SRANDMEMBER', queue .. 'groups', most)
    table.sort(groups)
    for _, group in ipairs(groups) do
      if #ids == most then break end
      local members = queue .. 'g:' .. group
      local found = redis.call('ZRANGE', members, 0, most - #ids - 1)
      redis.call('ZREMRANGEBYRANK', members, 0, #found - 1)
      if redis.call('EXISTS', members) == 0 then redis.call('SREM', queue .. 'groups', group) end
      for _, id in ipairs(found) do ids[#ids + 1] = id end
    end
    return ids, redis.call('SCARD', queue .. 'groups')
  end
  ids = redis.call('ZRANGE', key, 0, most - 1)
  redis.call('ZREMRANGEBYRANK', key, 0, #ids - 1)
  return ids, redis.call('ZCARD', key)
end
