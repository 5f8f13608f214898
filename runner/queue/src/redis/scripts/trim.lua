-- Keeping the archive within its bounds, and forgetting tasks altogether.
-- Needs clock.lua. Gives: forget(queue, own, set, ids) and trim(queue, own, limit).

-- Deletes tasks that lie in a sorted set, with everything that is remembered of them.
local function forget(queue, own, set, ids)
  if #ids == 0 then return end
  local gone = {}
  for _, id in ipairs(ids) do
    gone[#gone + 1] = queue .. 't:' .. id
    gone[#gone + 1] = own .. 'att:' .. id
  end
  wipe(gone)
  spread('ZREM', queue .. set, ids)
  spread('HDEL', own .. 'waiting', ids)
end

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
  forget(queue, own, 'archived', gone)
  return #gone
end
