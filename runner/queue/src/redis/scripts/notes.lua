-- Remembering the attempts of a task: its field `att` counts them, the last ones lie in `att:1`, `att:2` … in turn.
-- Gives: remember(key, line).

local KEPT = 30

local function remember(key, line)
  local nth = redis.call('HINCRBY', key, 'att', 1)
  redis.call('HSET', key, 'att:' .. (nth - 1) % KEPT + 1, line)
end
