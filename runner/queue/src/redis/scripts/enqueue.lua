-- Puts tasks on one queue, each on its own.
-- KEYS: the queue's pending list (names the slot).
-- ARGV after the clock: queue prefix; then for each task: id, message, lock key or '', lock ttl in ms,
-- when ('', '@ms', '+ms'), group or ''.
-- Returns: seconds, nanoseconds, then a code for each task (see put.lua).
local queue = ARGV[3]
local lists = {pending = {}, scheduled = {}}
local reply = {whole(now), fraction}
for i = 4, #ARGV, 6 do
  reply[#reply + 1] =
    put(queue, lists, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
end
flush(queue, lists)
return reply
