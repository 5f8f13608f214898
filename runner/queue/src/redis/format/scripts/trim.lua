-- Keeping the archive within its bounds.
-- Needs clock.lua, forget.lua. Gives: bound(own, most, age) and trim(queue, own, limit).

-- How many tasks an archive keeps and for how many seconds, unless the queue has bounds of its own: asynq's.
local MOST, AGE = 9999, 7776000

-- States the bounds, which hold for everybody who archives.
local function bound(own, most, age)
  local key = own .. 'archive'
  if tonumber(most) == MOST and tonumber(age) == AGE then
    redis.call('DEL', key)
  elseif look(false, 'GET', key) ~= most .. ' ' .. age then
    redis.call('SET', key, most .. ' ' .. age)
  end
end

-- Returns how many went, at most limit; the count of all that nobody was told of yet grows by them.
local function trim(queue, own, limit)
  local archive = queue .. 'archived'
  local most, age = string.match(look(false, 'GET', own .. 'archive') or '', '^(%d+) (%d+)$')
  most, age = tonumber(most or MOST), tonumber(age or AGE)
  local gone = keep('ZRANGE', archive, '-inf', whole(now - age), 'BYSCORE', 'LIMIT', 0, limit)
  local over = math.min(keep('ZCARD', archive) - #gone - most, limit - #gone)
  if over > 0 then
    -- The old ones are the lowest; those that are too many follow them.
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
