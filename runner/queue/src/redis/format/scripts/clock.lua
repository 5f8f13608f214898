-- The current time, and helpers shared by all scripts. Opens every script.
-- Any client of the server can store anything under any key: a value of another type, text instead of a number. A script
-- cannot roll back, so it must not fail because of that once it has written. Hence keys are accessed by
--   keep(command, key, ...)     for keys of queues or our own: a value of the wrong type is moved out of the way;
--   of_task(command, key, ...)  for keys of tasks: nil if the key does not hold a task;
--   the functions of guard.lua  in scripts that only read, and for counters;
-- and by redis.call only where no value can make it fail (EXISTS, DEL, SET), or its type is already known.
-- ARGV[1], ARGV[2]: seconds and nine digits of nanoseconds of the caller's clock, or empty: the server's.
-- Gives: now (whole seconds), fraction (nanoseconds as text), stamp (nanoseconds since the epoch as text, because Lua
-- numbers are not precise enough), millis (whole milliseconds).
local try, find = redis.pcall, string.find
local now, fraction = ARGV[1], ARGV[2]
if now == '' then
  local time = redis.call('TIME')
  now, fraction = time[1], string.format('%06d000', time[2])
end
local stamp = now .. fraction
now = tonumber(now)
local millis = now * 1000 + math.floor(tonumber(fraction) / 1000000)

-- A whole number in the form that Redis requires, without an exponent.
local function whole(number)
  return string.format('%d', math.floor(number))
end

-- A moved value stays in the slot of its key and is kept for a week; a set names it until it has been reported. Other
-- errors are raised: a full server, missing rights, a slot that was moved away.
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
  -- Raises the error if moving did not help.
  return redis.call(...)
end

local function of_task(...)
  local answer = try(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if not find(answer.err, 'WRONGTYPE', 1, true) then return redis.call(...) end
end

-- Runs a command over a list of any length, in chunks: a call takes a bounded number of values, even for pairs.
local function spread(command, key, list)
  for from = 1, #list, 1000 do
    local to = math.min(from + 999, #list)
    -- Success returns a count, an error a table. `keep` is only called then: it would cost a few per cent of a short script.
    if type(try(command, key, unpack(list, from, to))) == 'table' then keep(command, key, unpack(list, from, to)) end
  end
end

-- The same for commands whose arguments are all keys.
local function wipe(list)
  for from = 1, #list, 1000 do
    redis.call('DEL', unpack(list, from, math.min(from + 999, #list)))
  end
end
