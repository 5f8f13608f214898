-- Records the attempts of a task: its field `att` counts them, the last ones are in `att:1`, `att:2` … in turn.
-- Needs clock.lua. Gives: remember(key, line), for a key that is known to be a task.

local KEPT = 30

local function remember(key, line)
  local nth = count_field(key, 'att', 1)
  redis.call('HSET', key, 'att:' .. (nth - 1) % KEPT + 1, line)
end
