-- Counting what was processed: totals for ever, and each UTC day for 90 days.
-- Needs clock.lua. Gives: day_of(seconds), today() and tally(queue, done, failed), where done includes the failures.

-- The UTC date of an instant in seconds.
local function day_of(seconds)
  local days = math.floor(seconds / 86400)
  -- Days from the epoch to the first of January of a year.
  local function starts(year)
    local before = year - 1
    return 365 * (year - 1970) + math.floor(before / 4) - math.floor(before / 100)
      + math.floor(before / 400) - 477
  end
  local year = 1970 + math.floor(days / 365.2425)
  if days < starts(year) then
    year = year - 1
  elseif days >= starts(year + 1) then
    year = year + 1
  end
  local left = days - starts(year)
  local february = starts(year + 1) - starts(year) - 337
  local month = 1
  for _, length in ipairs({31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}) do
    if left < length then break end
    left = left - length
    month = month + 1
  end
  return string.format('%04d-%02d-%02d', year, month, left + 1)
end

local function today()
  return day_of(now)
end

-- Adds to a total; at the end of the 64-bit numbers it begins anew. Returns whether it did.
local function add(key, by)
  local reply = redis.pcall('INCRBY', key, by)
  if type(reply) == 'table' and reply.err and string.find(reply.err, 'overflow', 1, true) then
    redis.call('SET', key, by)
    return true
  end
  return false
end

-- The day's counter gets its end when it comes into being, which is when it equals what was added.
local function add_today(key, by)
  local reply = redis.pcall('INCRBY', key, by)
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
    redis.call('SET', queue .. 'failed', failed)
  else
    add(queue .. 'failed', failed)
  end
end
