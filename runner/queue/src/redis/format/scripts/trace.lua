-- Records of runs that outlive their tasks, in keys of the queue's slot:
--   runs:<function>   ids of the function's last runs, by when they ended
--   record:<task>     the record of one of these
--   output:<task>     its whole output, if the record has a part only; written before the claim ends
--   ends:<schedule>   for each of the last tasks of a schedule when it ended, when it began, and how
-- Needs clock.lua. Gives: trace_record(own, id, name, text) and trace_end(own, id, schedule, text).

-- Number of records of a function; of ends of a schedule, and the excess at which the oldest are deleted; seconds to keep all.
local RUNS, ENDS, SPARE, TRACED = 100, 200, 50, 7776000

local function trace_record(own, id, name, text)
  local list = own .. 'runs:' .. name
  keep('ZADD', list, whole(millis), id)
  redis.call('SET', own .. 'record:' .. id, text, 'EX', TRACED)
  local over = redis.call('ZCARD', list) - RUNS
  if over > 0 then
    local gone = redis.call('ZRANGE', list, 0, math.min(over, 1000) - 1)
    redis.call('ZREM', list, unpack(gone))
    local keys = {}
    for _, old in ipairs(gone) do
      keys[#keys + 1] = own .. 'record:' .. old
      keys[#keys + 1] = own .. 'output:' .. old
    end
    redis.call('DEL', unpack(keys))
  end
  redis.call('EXPIRE', list, TRACED)
end

local function trace_end(own, id, schedule, text)
  local key = own .. 'ends:' .. schedule
  keep('HSET', key, id, text)
  local held = redis.call('HLEN', key)
  if held > 10 * ENDS then
    -- Written by someone else.
    redis.call('DEL', key)
    redis.call('HSET', key, id, text)
  elseif held > ENDS + SPARE then
    local all, ids, at = redis.call('HGETALL', key), {}, {}
    for i = 1, #all, 2 do
      ids[#ids + 1] = all[i]
      at[all[i]] = tonumber(string.match(all[i + 1], '^%d+') or 0)
    end
    table.sort(ids, function(a, b) return at[a] < at[b] end)
    redis.call('HDEL', key, unpack(ids, 1, #ids - ENDS))
  end
  redis.call('EXPIRE', key, TRACED)
end
