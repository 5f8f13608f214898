-- The present, and helpers that all scripts share. Opens every script.
-- Whoever can write to the server can leave anything under any key: a value of another type, text where a number
-- belongs. A script has no way back, so it must not fail over that once it has written. Hence keys are touched by
--   keep(command, key, ...)     if the queues or we are made of them: what does not fit is moved out of the way;
--   of_task(command, key, ...)  if they are tasks: nil if what lies there is no task;
--   what guard.lua has for scripts that only read, and for counts;
-- and by redis.call only where no value can make it fail (EXISTS, DEL, SET), or its type is known by then.
-- ARGV[1], ARGV[2]: seconds and nine digits of nanoseconds of a clock of the caller's, or empty: the server's.
-- Gives: now (whole seconds), fraction (nanoseconds as text), stamp (nanoseconds since the epoch as text,
-- beyond the precision of numbers here), millis (whole milliseconds).
local try, find = redis.pcall, string.find
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

-- What is moved stays in the slot of its key and is kept for a week; a set names it until somebody tells of it. Other
-- errors are the caller's: a server that is full, that does not let us do this, that has given the slot away.
local function keep(...)
  local answer = try(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if find(answer.err, 'WRONGTYPE', 1, true) or find(answer.err, 'exhausted', 1, true) then
    local _, key = ...
    local tag = string.match(key, '^[^{]*({[^}]+})')
    local aside = 'runner:displaced:' .. (tag and key or '{' .. key .. '}')
    try('RENAME', key, aside)
    try('EXPIRE', aside, 604800)
    if tag then
      try('SADD', 'runner:displaced:' .. tag, key)
      try('EXPIRE', 'runner:displaced:' .. tag, 604800)
    end
    redis.log(redis.LOG_WARNING, 'runner: ' .. key .. ' holds a value of the wrong type; moved to ' .. aside)
  end
  -- What cannot be helped is raised by this.
  return redis.call(...)
end

local function of_task(...)
  local answer = try(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if not find(answer.err, 'WRONGTYPE', 1, true) then return redis.call(...) end
end

-- A command over a list of any length: a call takes a bounded number of values, and an even one for pairs.
local function spread(command, key, list)
  for from = 1, #list, 1000 do
    local to = math.min(from + 999, #list)
    -- A count; `keep` itself would cost a few per cent of a short script, so those that claim call it only for an error.
    if type(try(command, key, unpack(list, from, to))) == 'table' then keep(command, key, unpack(list, from, to)) end
  end
end

-- The same for commands that take nothing but keys.
local function wipe(list)
  for from = 1, #list, 1000 do
    redis.call('DEL', unpack(list, from, math.min(from + 999, #list)))
  end
end
