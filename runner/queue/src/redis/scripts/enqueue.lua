-- Puts tasks on one queue, each on its own.
-- KEYS: the queue's pending list (names the slot), the list of all queues unless that is told in another way.
-- ARGV after the clock: queue prefix, queue; then for each task: id, message, lock key or '', lock ttl in ms,
-- when ('', '@ms', '+ms'), group or ''.
-- Returns: seconds, nanoseconds, then a code for each task (see put.lua).
local queue = ARGV[3]
local lists = {pending = {}, scheduled = {}}
local reply = {whole(now), fraction}
if KEYS[2] then redis.call('SADD', KEYS[2], ARGV[4]) end
for i = 5, #ARGV, 6 do
  reply[#reply + 1] =
    put(queue, lists, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
end
flush(queue, lists)
return reply
