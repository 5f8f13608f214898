-- Keeps the archive within its limits.
-- Needs clock.lua, forget.lua. Gives: bound(own, most, age) and trim(queue, own, limit).

-- The default limits, asynq's: how many tasks an archive keeps, and for how many seconds.
local MOST, AGE = 9999, 7776000

-- Sets the limits, which apply to everyone who archives.
local function bound(own, most, age)
  local key = own .. 'archive'
  if tonumber(most) == MOST and tonumber(age) == AGE then
    redis.call('DEL', key)
  elseif look(false, 'GET', key) ~= most .. ' ' .. age then
    redis.call('SET', key, most .. ' ' .. age)
  end
end

-- Returns how many were deleted, at most limit, and adds them to the count of unreported ones.
local function trim(queue, own, limit)
  local archive = queue .. 'archived'
  local most, age = string.match(look(false, 'GET', own .. 'archive') or '', '^(%d+) (%d+)$')
  most, age = tonumber(most or MOST), tonumber(age or AGE)
  local gone = keep('ZRANGE', archive, '-inf', whole(now - age), 'BYSCORE', 'LIMIT', 0, limit)
  local over = math.min(keep('ZCARD', archive) - #gone - most, limit - #gone)
  if over > 0 then
    -- The old ones are the lowest; the excess follows them.
    for _, id in ipairs(keep('ZRANGE', archive, #gone, #gone + over - 1)) do
      gone[#gone + 1] = id
    end
  end
  if #gone == 0 then return 0 end
  spread('ZREM', archive, gone)
  forget(queue, own, gone)
  count_up(own .. 'trimmed', #gone)
  return #gone
end
