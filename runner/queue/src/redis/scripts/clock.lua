-- The present, and helpers that all scripts share. Opens every script.
-- ARGV[1], ARGV[2]: seconds and nine digits of nanoseconds of a clock of the caller's, or empty: the server's.
-- Gives: now (whole seconds), fraction (nanoseconds as text), stamp (nanoseconds since the epoch as text,
-- beyond the precision of numbers here), millis (whole milliseconds).
local now, fraction = ARGV[1], ARGV[2]
if now == '' then
  local time = redis.call('TIME')
  now, fraction = time[1], string.format('%06d000', time[2])
end
local stamp = now .. fraction
now = tonumber(now)
local millis = now * 1000 + math.floor(tonumber(fraction) / 1000000)

-- A whole number as Redis wants it, without an exponent.
local function whole(number)
  return string.format('%d', math.floor(number))
end

-- A command over a list of any length: a call takes a bounded number of values, and an even one for pairs.
local function spread(command, key, list)
  for from = 1, #list, 1000 do
    redis.call(command, key, unpack(list, from, math.min(from + 999, #list)))
  end
end

-- The same for commands that take nothing but keys.
local function wipe(list)
  for from = 1, #list, 1000 do
    redis.call('DEL', unpack(list, from, math.min(from + 999, #list)))
  end
end

-- Names of a queue's groups; of very many about a thousand, always much the same: more to look at in one call would
-- hold up everybody else.
local function some_groups(queue)
  return redis.call('SSCAN', queue .. 'groups', '0', 'COUNT', 1000)[2]
end
