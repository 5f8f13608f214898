-- Puts tasks on one queue, each on its own.
-- KEYS: the queue's pending list (names the slot), the list of all queues unless that is told in another way.
-- ARGV after the clock: queue prefix, queue, a letter for each task; then for each task
--   p pending at once, without a lock or a group: id, message
--   x any other: id, message, lock key or '', lock ttl in ms, when ('', '@ms', '+ms'), group or ''
-- Returns: seconds, nanoseconds, then number (from 1) and code of each task that is not simply pending (see put.lua).
local queue, letters = ARGV[3], ARGV[5]
local lists = {pending = {}, scheduled = {}}
local pending, prefix = lists.pending, queue .. 't:'
local reply = {whole(now), fraction}
if KEYS[2] then redis.call('SADD', KEYS[2], ARGV[4]) end
local at = 6
for number = 1, #letters do
  local id, code = ARGV[at], 1
  if string.sub(letters, number, number) == 'p' then
    local key = prefix .. id
    if redis.call('EXISTS', key) == 1 then
      code = 0
    else
      redis.call('HSET', key, 'msg', ARGV[at + 1], 'state', 'pending', 'pending_since', stamp)
      pending[#pending + 1] = id
    end
    at = at + 2
  else
    code = put(queue, lists, id, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
    at = at + 6
  end
  if code ~= 1 then
    reply[#reply + 1] = number
    reply[#reply + 1] = code
  end
end
flush(queue, lists)
return reply
