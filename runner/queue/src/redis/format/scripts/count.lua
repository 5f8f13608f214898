-- Counts processed tasks: a total forever, and each UTC day for 90 days.
-- Needs clock.lua. Gives: day_of(seconds), today() and tally(queue, done, failed), where done includes the failures.

-- The UTC date of an instant in seconds. Years are counted from March, so that the leap day is their last one.
local function day_of(seconds)
  local floor = math.floor
  local days = floor(seconds / 86400) + 719468
  local era = floor(days / 146097)
  local day = days - era * 146097
  local year = floor((day - floor(day / 1460) + floor(day / 36524) - floor(day / 146096)) / 365)
  day = day - 365 * year - floor(year / 4) + floor(year / 100)
  local month = floor((5 * day + 2) / 153)
  local nth = day - floor((153 * month + 2) / 5) + 1
  year = year + 400 * era
  if month < 10 then
    month = month + 3
  else
    month, year = month - 9, year + 1
  end
  return string.format('%04d-%02d-%02d', year, month, nth)
end

local function today()
  return day_of(now)
end

-- Adds to a total, which restarts at the end of 64-bit numbers and if it is not a number. Returns whether it did.
local function add(key, by)
  local reply = try('INCRBY', key, by)
  if type(reply) == 'table' then
    try('SET', key, by)
    return true
  end
  return false
end

-- The day's counter gets its expiry when it is created, that is when it equals what was added.
local function add_today(key, by)
  local reply = try('INCRBY', key, by)
  if type(reply) == 'table' then
    try('SET', key, by)
    reply = by
  end
  if reply == by then
    redis.call('EXPIREAT', key, whole(now + 7776000))
  end
end

local function tally(queue, done, failed)
  if done == 0 then return end
  local day = today()
  add_today(queue .. 'processed:' .. day, done)
  local again = add(queue .. 'processed', done)
  if failed == 0 then return end
  add_today(queue .. 'failed:' .. day, failed)
  if again then
    try('SET', queue .. 'failed', failed)
  else
    add(queue .. 'failed', failed)
  end
end
