-- Tasks that follow the one that ends. Each is a text: the lengths of its queue and id, how long its id is refused in ms, a line
-- break, then queue, id and message without anything between them.
--   followers   in a cluster, tasks of other slots by queue and id, until they are moved there
-- Needs clock.lua and put.lua. Gives: follow(queue, followed, text), whose lists flush writes for each prefix in followed, and
-- write_down(own, text).

-- Once: a receipt of its id outlives it.
local function follow(queue, followed, text)
  local q, i, remember, rest = string.match(text, '^(%d+) (%d+) (%d+)\n(.*)$')
  local name, id = string.sub(rest, 1, q), string.sub(rest, q + 1, q + i)
  local prefix, receipt = 'asynq:{' .. name .. '}:', 'runner:{' .. name .. '}:receipt:' .. id
  if redis.call('EXISTS', receipt) == 1 then return end
  local lists = followed[prefix] or {pending = {}, scheduled = {}}
  followed[prefix] = lists
  if put(prefix, lists, id, string.sub(rest, q + i + 1), '', 0, '', '') > 0 then
    redis.call('SET', receipt, '', 'PX', remember)
    -- The queue of the task that ended is known. In a cluster there is no other one here.
    if prefix ~= queue then keep('SADD', 'asynq:queues', name) end
  end
end

local function write_down(own, text)
  local q, i, _, rest = string.match(text, '^(%d+) (%d+) (%d+)\n(.*)$')
  keep('HSET', own .. 'followers', string.sub(rest, 1, q + i), text)
end
