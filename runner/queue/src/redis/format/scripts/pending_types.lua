-- The types of a queue's oldest pending tasks.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix, how many tasks to read, how many types to return at most.
-- Returns: for each type: its name, how many tasks, and since when the oldest is pending, in ns, or ''. Fewer tasks are read
-- when they are large; unreadable ones are left out.
local counts, oldest, kinds = {}, {}, {}
local ids = look({}, 'LRANGE', KEYS[1], -tonumber(ARGV[4]), -1)
local left = tonumber(ARGV[4])
for i = #ids, 1, -1 do
  if left <= 0 then break end
  local held = try('HMGET', ARGV[3] .. 't:' .. ids[i], 'msg', 'pending_since')
  local kind = held[1] and kind_of(held[1])
  left = left - 1
  if kind then
    left = left - math.floor(#held[1] / 4096)
    local since = held[2] and tonumber(held[2])
    if counts[kind] then
      counts[kind] = counts[kind] + 1
    elseif #kinds < tonumber(ARGV[5]) then
      counts[kind], kinds[#kinds + 1] = 1, kind
    end
    if counts[kind] and since and (not oldest[kind] or since < tonumber(oldest[kind])) then oldest[kind] = held[2] end
  end
end
local reply = {}
for _, kind in ipairs(kinds) do
  reply[#reply + 1] = kind
  reply[#reply + 1] = counts[kind]
  reply[#reply + 1] = oldest[kind] or ''
end
return reply
