-- A part of the tasks of a staged set.
-- KEYS: the set.
-- ARGV after the clock: queue prefix, how many to leave out, how many to show.
-- Returns: for each task: id, message or '', state or ''.
local queue, skip = ARGV[3], tonumber(ARGV[4])
local reply = {}
for _, id in ipairs(look({}, 'ZRANGE', KEYS[1], skip, skip + tonumber(ARGV[5]) - 1)) do
  local held = of_task('HMGET', queue .. 't:' .. id, 'msg', 'state') or {}
  local at = #reply
  reply[at + 1], reply[at + 2], reply[at + 3] = id, held[1] or '', held[2] or ''
end
return reply
