-- Reading and counting where any value may be stored.
-- Needs clock.lua. Gives: look(none, command, key, ...): `none` if the value does not fit; count_up(key, by) and
-- count_field(key, field, by), where a value that is not a number counts as 0; stored(text): a whole number stored as
-- text; taken_count(key): the count since the last call; some_groups(queue).

local function look(none, ...)
  local answer = try(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if find(answer.err, 'WRONGTYPE', 1, true) then return none end
  return redis.call(...)
end

-- Any other error that prevents counting also prevents setting the count, and is raised by that.
local function count_up(key, by)
  local sum = try('INCRBY', key, by)
  if type(sum) == 'number' then return sum end
  redis.call('SET', key, by)
  return by
end

-- For a key that is known to be a hash.
local function count_field(key, field, by)
  local sum = try('HINCRBY', key, field, by)
  if type(sum) == 'number' then return sum end
  redis.call('HSET', key, field, by)
  return by
end

-- Nothing for a value that is not a number, or one beyond those that Lua numbers hold exactly.
local function stored(text)
  if text and #text < 17 and find(text, '^-?%d+$') then return tonumber(text) end
end

local function taken_count(key)
  local count = stored(look(false, 'GET', key))
  redis.call('DEL', key)
  return math.max(count or 0, 0)
end

-- Names of a queue's groups; of very many about a thousand, mostly the same ones: reading more in one call would block all
-- other callers.
local function some_groups(queue)
  return look({'0', {}}, 'SSCAN', queue .. 'groups', '0', 'COUNT', 1000)[2]
end
