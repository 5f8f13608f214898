-- Tasks that follow the one that ends. Each is a text: the lengths of its queue and id, how long its id is refused in ms, the length
-- of its group, a line break, then queue, id, group and message without anything between them.
--   followers   in a cluster, tasks of other slots by queue and id, until they are moved there
-- Needs clock.lua and put.lua. Gives: reach(queue, own, text), to call before the first write; follow(queue, own, followed, text),
-- whose lists flush writes for each prefix in followed; and write_down(own, text).

local function parts(text)
  local q, i, remember, g, rest = string.match(text, '^(%d+) (%d+) (%d+) (%d+)\n(.*)$')
  local name, id, group = string.sub(rest, 1, q), string.sub(rest, q + 1, q + i), string.sub(rest, q + i + 1, q + i + g)
  local message = string.sub(rest, q + i + g + 1)
  return name, id, remember, message, 'asynq:{' .. name .. '}:', 'runner:{' .. name .. '}:receipt:' .. id, group
end

-- Raises what a slot that is being moved answers for keys that do not exist yet: later it would end the script after the task
-- has ended, and what follows would be lost.
local function reach(queue, own, text)
  local _, id, _, _, prefix, receipt = parts(text)
  redis.call('EXISTS', own .. 'followers', own .. 'suspects')
  if prefix == queue then redis.call('EXISTS', receipt, prefix .. 't:' .. id) end
end

local function write_down(own, text)
  local q, i, rest = string.match(text, '^(%d+) (%d+) %d+ %d+\n(.*)$')
  keep('HSET', own .. 'followers', string.sub(rest, 1, q + i), text)
end

-- Once: a receipt of its id outlives it.
local function enqueue_next(queue, followed, text)
  local name, id, remember, message, prefix, receipt, group = parts(text)
  if redis.call('EXISTS', receipt) == 1 then return end
  local lists = followed[prefix] or {pending = {}, scheduled = {}}
  if put(prefix, lists, id, message, '', '0', '', group) > 0 then
    followed[prefix] = lists
    redis.call('SET', receipt, '', 'PX', remember)
    -- The queue of the task that ended is known. In a cluster there is no other one here.
    if prefix ~= queue then keep('SADD', 'asynq:queues', name) end
  end
end

-- A queue that this user may not write to must not keep the task before it from ending: what follows is written down, and moved
-- once it may.
local function follow(queue, own, followed, text)
  if not pcall(enqueue_next, queue, followed, text) then write_down(own, text) end
end
