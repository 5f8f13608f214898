-- Drops claims that nobody holds: of tasks that another program took over and ended.
-- KEYS: the hash of claims.
-- ARGV after the clock: queue prefix, cursor ('0' to begin), how many about.
-- Returns: next cursor ('0' at the end), how many were dropped.
local part = keep('HSCAN', KEYS[1], ARGV[4], 'COUNT', ARGV[5])
local dropped = {}
for i = 1, #part[2], 2 do
  local id = part[2][i]
  if id ~= '' and of_task('HGET', ARGV[3] .. 't:' .. id, 'state') ~= 'active' then
    dropped[#dropped + 1] = id
  end
end
spread('HDEL', KEYS[1], dropped)
return {part[1], #dropped}
