-- Enqueues tasks on one queue, each id once: a receipt of the id outlives the task.
-- KEYS: the queue's pending list (names the slot), the list of all queues unless the queue is listed by other means.
-- ARGV after the clock: queue prefix, queue, own prefix; then for each task: how long its id is refused in ms, or 0; id,
-- message, lock key or '', lock ttl in ms (see put.lua), when ('', '@ms', '+ms'), group or ''.
-- Returns: seconds, nanoseconds, then number (from 1) and code of each task that is not simply pending (see put.lua),
-- -2: there is a receipt; the id of a task that took what was given follows its code after a blank.
local queue, lists = ARGV[3], {pending = {}, scheduled = {}}
local receipts = ARGV[5] .. 'receipt:'
local reply = {whole(now), fraction}
if KEYS[2] then keep('SADD', KEYS[2], ARGV[4]) end
for at = 6, #ARGV, 7 do
  local receipt, remember, code, holder = receipts .. ARGV[at + 1], tonumber(ARGV[at]), -2, nil
  if redis.call('EXISTS', receipt) == 0 then
    code, holder = put(queue, lists, unpack(ARGV, at + 1, at + 6))
    if code > 0 and remember > 0 then redis.call('SET', receipt, '', 'PX', whole(remember)) end
  end
  if code ~= 1 then
    reply[#reply + 1] = (at + 1) / 7
    reply[#reply + 1] = holder and code .. ' ' .. holder or code
  end
end
flush(queue, lists)
return reply
