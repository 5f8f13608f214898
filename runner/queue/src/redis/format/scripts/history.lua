-- The processed tasks of a queue on each of the last days.
-- KEYS: the queue's total (names the slot).
-- ARGV after the clock: queue prefix, how many days.
-- Returns: for each day, today first: its date, processed, failed (nothing for none).
local queue, reply = ARGV[3], {}
for back = 0, tonumber(ARGV[4]) - 1 do
  local day = day_of(now - back * 86400)
  local counts = redis.call('MGET', queue .. 'processed:' .. day, queue .. 'failed:' .. day)
  reply[#reply + 1] = day
  reply[#reply + 1] = counts[1] or ''
  reply[#reply + 1] = counts[2] or ''
end
return reply
