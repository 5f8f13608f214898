-- Enqueues tasks on one queue, each independently of the others.
-- KEYS: the queue's pending list (names the slot), the list of all queues unless the queue is listed by other means.
-- ARGV after the clock: queue prefix, queue; then for each task: id, message, lock key or '', lock ttl in ms (see put.lua),
-- when ('', '@ms', '+ms'), group or ''.
-- Returns: seconds, nanoseconds, then number (from 1) and code of each task that is not simply pending (see put.lua);
-- the id of a task that took what was given follows its code after a blank.
local queue, lists = ARGV[3], {pending = {}, scheduled = {}}
local reply = {whole(now), fraction}
if KEYS[2] then keep('SADD', KEYS[2], ARGV[4]) end
for at = 5, #ARGV, 6 do
  local code, holder = put(queue, lists, unpack(ARGV, at, at + 5))
  if code ~= 1 then
    reply[#reply + 1] = (at + 1) / 6
    reply[#reply + 1] = holder and code .. ' ' .. holder or code
  end
end
flush(queue, lists)
return reply
