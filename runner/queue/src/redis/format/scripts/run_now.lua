-- Enqueues a task of a schedule because a person asks for it, and records that.
-- KEYS: the cursors, the record of all decisions, the record of this schedule's.
-- ARGV after the clock: schedule, the overlap policy (see decide.lua), who asks, how many decisions to keep in all, how
-- many of this schedule, seconds to keep its own record, queue prefix, task id, message or '' if the task is on its queue
-- already, lock key or '', lock ttl in ms, when, group, headers to keep beside the message or ''.
-- Returns: 'done' and the decision in JSON; 'busy', the unfinished task and what it is doing; 'taken' if there is a task
-- with this id; 'locked' if another task holds the lock.
local id, how, by, queue, task, msg = ARGV[3], ARGV[4], ARGV[5], ARGV[9], ARGV[10], ARGV[11]
if msg ~= '' then
  local runs = keep('HMGET', KEYS[1], 'p:' .. id, 't:' .. id, 'mp:' .. id, 'mt:' .. id)
  for i = 1, 3, 2 do
    -- The key identifies the task, whatever happened to the field that should.
    local key = runs[i] or ''
    local previous = string.match(key, '}:t:(.+)$')
    local what = how ~= 'allow' and previous and busy(key, previous, queue, how)
    if what then return {'busy', previous, what} end
  end
  local lists = {pending = {}, scheduled = {}}
  local code, took = put(queue, lists, task, msg, ARGV[12], ARGV[13], ARGV[14], ARGV[15])
  flush(queue, lists)
  task = took or task
  if code == 0 then return {'taken'} end
  if code == -1 then return {'locked'} end
  keep_headers(queue, task, ARGV[16], code, ARGV[13])
end
keep('HSET', KEYS[1], 'mp:' .. id, queue .. 't:' .. task, 'mt:' .. id, task)
local text = decided(id, by, now, 'manual', 'by ' .. by, task, 1, queue)
record(KEYS[2], KEYS[3], {text}, ARGV[6], ARGV[7], ARGV[8])
return {'done', text}
