-- Keeping the archive within its bounds.
-- Needs clock.lua, forget.lua. Gives: trim(queue, own, limit).

-- The archive keeps tasks for 90 days, and 9999 of them; returns how many went, at most limit.
local function trim(queue, own, limit)
  local archive = queue .. 'archived'
  local gone = redis.call('ZRANGE', archive, '-inf', whole(now - 7776000), 'BYSCORE', 'LIMIT', 0, limit)
  local over = math.min(redis.call('ZCARD', archive) - #gone - 9999, limit - #gone)
  if over > 0 then
    -- The old ones are the lowest; those that are too many follow them.
    for _, id in ipairs(redis.call('ZRANGE', archive, #gone, #gone + over - 1)) do
      gone[#gone + 1] = id
    end
  end
  spread('ZREM', archive, gone)
  forget(queue, own, gone)
  return #gone
end
